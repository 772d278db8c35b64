"""The teacher's scores of a trajectory: a log-probability for each token that the policy wrote."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from slime_search.core.trajectory import Owner, Segment, Trajectory
from slime_search.dialects.chat_frame import ChatTemplate, Message
from slime_search.dialects.tool_calls import FunctionTool
from slime_search.errors import ConfigError
from slime_search.recipes.distillation.alignment import transfer
from slime_search.recipes.distillation.config import TeacherConfig
from slime_search.recipes.distillation.prompt_log_probs import Span
from slime_search.recipes.distillation.rendering import TeacherView
from slime_search.recipes.distillation.teacher import Teacher


class TeacherScores(NamedTuple):
    """One value for each response token: the teacher's log-probability (nats), None where it has none for the token.

    They were made of ``asked`` log-probabilities of the teacher's tokens, ``remembered`` of which were cached.
    """

    log_probs: list[float | None]
    asked: int
    remembered: int


class Scorer:
    """Asks a teacher about trajectories of the tool-calling dialect.

    A teacher with the policy's tokenizer is sent the policy's own tokens. Any other one reads the conversation in its
    own template and tokens, and its log-probabilities change hands by the bytes that tokens share.

    Args:
        config: the teacher.
        tokenizer: the policy's.
        template: the policy's.
        tools: what the policy may call.

    Raises:
        ConfigError: the teacher's tokenizer can't be loaded or used.
    """

    def __init__(
        self, config: TeacherConfig, *, tokenizer: Any, template: ChatTemplate, tools: Sequence[FunctionTool]
    ) -> None:
        self._view: TeacherView | None = None
        own = tokenizer
        if config.tokenizer is not None:
            own = _load(config.tokenizer)
            self._view = TeacherView(
                own, config.template_kwargs, student_tokenizer=tokenizer, student_template=template, tools=tools
            )
        self._teacher = Teacher(config, own)

    @property
    def needs_messages(self) -> bool:
        """Whether the teacher is shown the conversation's messages, and not the policy's tokens."""
        return self._view is not None

    async def ready(self) -> None:
        """Asks the teacher's servers, once, whether they can do their part.

        Raises:
            ConfigError: none answers, or the tokenizer is not theirs.
            ProtocolError: they give no log-probabilities of a prompt.
        """
        await self._teacher.ready()

    async def score(
        self, trajectory: Trajectory, messages: Sequence[Message] = (), before: Sequence[Segment] = ()
    ) -> TeacherScores:
        """The teacher's log-probabilities of the response tokens that the model wrote.

        Args:
            trajectory: of one context.
            messages: the prompt; not read where ``needs_messages`` is False.
            before: what was said in the contexts before, where the trajectory was forked.

        Raises:
            ServiceError: the teacher failed after its retries, or refused the request.
            ProtocolError: its answer is not about these tokens.
            DataError: its tokenizer can't write a text of the trajectory.
        """
        segments = trajectory.segments
        if not any(s.token_ids for s in segments if s.owner is Owner.MODEL):
            return TeacherScores([None for s in segments for _ in s.token_ids], 0, 0)
        if self._view is None:
            return await self._score_tokens(trajectory)
        return await self._score_text(self._view, segments, messages, before)

    async def _score_tokens(self, trajectory: Trajectory) -> TeacherScores:
        mask = trajectory.loss_mask
        first, last = mask.index(1), len(mask) - 1 - mask[::-1].index(1)
        prompt = len(trajectory.prompt_ids)
        scored = await self._teacher.log_probs(Span(trajectory.token_ids[: prompt + last + 1], max(prompt + first, 1)))
        start = max(first, 1 - prompt)
        log_probs: list[float | None] = [None] * len(mask)
        for position, log_prob in enumerate(scored.log_probs, start):
            log_probs[position] = log_prob if mask[position] else None
        return TeacherScores(log_probs, len(scored.log_probs), scored.remembered)

    async def _score_text(
        self, view: TeacherView, segments: Sequence[Segment], messages: Sequence[Message], before: Sequence[Segment]
    ) -> TeacherScores:
        spoken = [(owner, list(group)) for owner, group in groupby(segments, key=lambda segment: segment.owner)]
        own = sum(owner is Owner.MODEL for owner, _ in spoken)
        rendered = view.render(messages, [*before, *segments])
        turns = rendered.turns[-own:]
        start, end = turns[0].start, turns[-1].start + len(turns[-1].teacher_sizes)
        scored = await self._teacher.log_probs(Span(rendered.token_ids[:end], start))
        log_probs: list[float | None] = []
        remaining = iter(turns)
        for owner, group in spoken:
            if owner is Owner.MODEL:
                turn = next(remaining)
                own_log_probs = scored.log_probs[turn.start - start :][: len(turn.teacher_sizes)]
                log_probs += transfer(turn.student_sizes, turn.teacher_sizes, turn.runs, own_log_probs)
            else:
                log_probs += [None] * sum(len(segment.token_ids) for segment in group)
        return TeacherScores(log_probs, len(scored.log_probs), scored.remembered)


def _load(checkpoint: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"teacher.tokenizer = {checkpoint!r}: no tokenizer there ({error})") from error
