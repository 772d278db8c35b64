"""Search with online distillation: the policy searches by tool calls, and a teacher scores what it wrote."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, cast

from slime_search.config import SearchConfig
from slime_search.core.cancellation import unless_cancelled
from slime_search.core.dialect import Format
from slime_search.core.failures import FailureMonitor
from slime_search.core.tokens import Tokenizer
from slime_search.core.trajectory import Segment, Trajectory
from slime_search.dialects.chat_frame import Message
from slime_search.dialects.tool_calls import SEARCH_MANY_TOOL, FunctionTool, ToolCallFormat
from slime_search.errors import DataError, Interrupted, ProtocolError, ServiceError
from slime_search.hooks.contract import Args, Sample
from slime_search.hooks.distillation import leave_alone, write_teacher_failure, write_teacher_scores
from slime_search.hooks.runtime import runtime
from slime_search.hooks.samples import read_trajectory
from slime_search.recipes.distillation.config import DistillConfig, SearchToolConfig
from slime_search.recipes.distillation.scoring import Scorer
from slime_search.recipes.distillation.teacher import SERVICE
from slime_search.recipes.search_r1_tools import ChatParts, SearchR1Tools

TOOLS = (SEARCH_MANY_TOOL,)
TOOL_SCHEMAS = [tool.schema for tool in TOOLS]
"""The tools as the model is shown them, and as a training file's tools column holds them."""


class SearchTool(SearchR1Tools):
    """A search function that takes one query or a list of them. No teacher: GRPO alone."""

    config_class: type[SearchConfig] = SearchToolConfig
    tools: tuple[FunctionTool, ...] = TOOLS
    format: Format = ToolCallFormat(TOOLS)


class SearchDistillation(SearchTool):
    """The same, with a teacher's log-probabilities on every sample, for slime's ``--use-opd``.

    Needs ``normalize_rewards`` of ``slime_search.hooks.distillation`` as its --custom-reward-post-process-path, or
    ``no_task_reward`` for pure distillation.
    """

    config_class = DistillConfig

    async def generate(
        self, args: Args, sample: Sample, sampling_params: Mapping[str, Any], evaluation: bool = False
    ) -> Sample | list[Sample]:
        """slime's ``--custom-generate-function-path``: every recipe's rollout, and then the teacher's scores of it.

        An evaluation does without the teacher. A sample that the teacher fails is left on its task reward alone.

        Raises:
            TooManyFailures: too many trajectories failed, or the teacher failed too many.
            ConfigError: no teacher answers, or its tokenizer is not the configured one.
            ProtocolError: the teacher gives no log-probabilities of a prompt, or the engine none of its tokens.
            DataError: the teacher needs messages, and the prompt is text.
        """
        if evaluation:
            return await super().generate(args, sample, sampling_params, evaluation)
        here = runtime(args)
        parts = self._parts(args, here)
        assert isinstance(parts, DistillParts)
        messages = _messages(sample) if parts.scorer.needs_messages else []
        await parts.scorer.ready()
        made = await super().generate(args, sample, sampling_params)
        await _score(parts, made if isinstance(made, list) else [made], messages, here.cancelled)
        return made

    def _build(self, args: Args, config: SearchConfig, tokenizer: Tokenizer) -> "DistillParts":
        return DistillParts(args, config, tokenizer, self.tools)


class DistillParts(ChatParts):
    """With the teacher, to whom the policy's tokenizer and template matter."""

    def __init__(self, args: Args, config: SearchConfig, tokenizer: Tokenizer, tools: Sequence[FunctionTool]) -> None:
        super().__init__(args, config, tokenizer, tools)
        self.teacher = cast(DistillConfig, config).teacher
        self.teacher_failures = FailureMonitor(
            window=self.rollout_size,
            max_share=self.teacher.max_failure_share,
            consequence="sample without its teacher",
            setting="teacher.max_failure_share",
        )

    @cached_property
    def scorer(self) -> Scorer:
        """Made when it is first asked for, so that an evaluation needs no teacher's tokenizer. Raises ConfigError."""
        return Scorer(self.teacher, tokenizer=self.tokenizer, template=self.dialect.template, tools=self.tools)

    def decode_one(self, token_id: int) -> str:
        """The text of one token; for reading only."""
        return self.tokenizer.decode([token_id], skip_special_tokens=False)


async def _score(
    parts: DistillParts,
    samples: Sequence[Sample],
    messages: Sequence[Message],
    cancelled: Callable[[], bool] | None,
) -> None:
    """Sets the teacher's log-probabilities on the samples of one rollout. A cancelled rollout does without them."""
    trajectories = [read_trajectory(sample) for sample in samples]
    segments_before = list(accumulate((t.segments for t in trajectories), initial=list[Segment]()))
    scoring = asyncio.gather(
        *(
            _score_one(parts, sample, trajectory, before, messages)
            for sample, trajectory, before in zip(samples, trajectories, segments_before, strict=False)
        )
    )
    try:
        errors = await (scoring if cancelled is None else unless_cancelled(cancelled, scoring))
    except Interrupted:
        for sample in samples:
            leave_alone(sample)
        return
    error = next(filter(None, errors), None)
    parts.teacher_failures.count(SERVICE if error else None, error)


async def _score_one(
    parts: DistillParts,
    sample: Sample,
    trajectory: Trajectory,
    before: Sequence[Segment],
    messages: Sequence[Message],
) -> str | None:
    """The error, if the teacher failed."""
    if sample.remove_sample or not trajectory.response_ids:
        leave_alone(sample)
        return None
    try:
        scores = await parts.scorer.score(trajectory, messages, before)
    except (ServiceError, ProtocolError, DataError) as error:
        write_teacher_failure(sample, str(error))
        return str(error)
    write_teacher_scores(
        sample,
        scores.log_probs,
        clip=parts.teacher.clip,
        disagreements=parts.teacher.disagreements,
        asked=scores.asked,
        remembered=scores.remembered,
        decode=parts.decode_one,
    )
    return None


def _messages(sample: Sample) -> list[Message]:
    """The sample's prompt for a teacher with a template of its own."""
    if isinstance(sample.prompt, str):
        raise DataError(
            f"sample {sample.index}: the prompt is text, and the teacher's own template has to render its messages. "
            "Leave out --apply-chat-template, so that the sample keeps them."
        )
    return list(sample.prompt)
