"""Search with online distillation: the policy searches by tool calls, and a teacher scores what it wrote."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

from slime_search.config import SearchConfig
from slime_search.core.dialect import Format
from slime_search.core.trajectory import Segment, Trajectory
from slime_search.dialects.chat_frame import Message
from slime_search.dialects.tool_calls import SEARCH_MANY_TOOL, FunctionTool, ToolCallFormat
from slime_search.errors import DataError, ProtocolError, ServiceError
from slime_search.hooks.distillation import leave_alone, write_no_verdict, write_verdict
from slime_search.hooks.failures import FailureMonitor
from slime_search.hooks.runtime import runtime
from slime_search.hooks.samples import read_trajectory
from slime_search.recipes.distillation.config import DistillConfig, SearchToolConfig
from slime_search.recipes.distillation.scoring import Scorer
from slime_search.recipes.distillation.teacher import SERVICE
from slime_search.recipes.search_r1_tools import ChatParts, SearchR1Tools

TOOLS = (SEARCH_MANY_TOOL,)
TOOL_SCHEMAS = [tool.schema for tool in TOOLS]
"""What the model is told, and what a training file's tools column holds."""


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
        self, args: Any, sample: Any, sampling_params: Mapping[str, Any], evaluation: bool = False
    ) -> Any:
        """slime's ``--custom-generate-function-path``: runs or resumes one trajectory, and asks the teacher about it.

        An evaluation does without the teacher. A sample that the teacher fails is left on its task reward alone.

        Raises:
            TooManyFailures: too many trajectories failed, or the teacher failed too many.
            ConfigError: no teacher answers, or its tokenizer is another than was said.
            ProtocolError: the teacher gives no log-probabilities of a prompt, or the engine none of its tokens.
            DataError: the teacher needs messages, and the prompt is text.
        """
        if evaluation:
            return await super().generate(args, sample, sampling_params, evaluation)
        parts = self._parts(args)
        assert isinstance(parts, DistillParts)
        scorer = parts.ready(args, runtime(args).tokenizer).scorer
        messages = _messages(sample) if scorer.needs_messages else []
        await scorer.ready()
        result = await super().generate(args, sample, sampling_params)
        await _ask(parts, result if isinstance(result, list) else [result], messages)
        return result

    def _build(self, args: Any, config: SearchConfig) -> "DistillParts":
        return DistillParts(args, config, self.tools)


class DistillParts(ChatParts):
    """``ready`` adds the teacher, to whom the policy's tokenizer and template matter."""

    scorer: Scorer

    def __init__(self, args: Any, config: SearchConfig, tools: Sequence[FunctionTool]) -> None:
        super().__init__(args, config, tools)
        self.teacher = cast(DistillConfig, config).teacher
        self.teacher_failures = FailureMonitor(
            window=self.rollout_size,
            max_share=self.teacher.max_failure_share,
            consequence="sample without its teacher",
            setting="teacher.max_failure_share",
        )
        self._scored_for: Any = None

    def ready(self, args: Any, tokenizer: Any) -> "DistillParts":
        super().ready(args, tokenizer)
        # Known apart from the policy's own parts, which are ready even where the teacher's tokenizer can't be loaded.
        if self._scored_for is not tokenizer:
            self.scorer = Scorer(self.teacher, tokenizer=tokenizer, template=self.dialect.template, tools=self.tools)
            self._scored_for = tokenizer
        return self

    def decode_one(self, token_id: int) -> str:
        return self._decode([token_id])


async def _ask(parts: DistillParts, samples: Sequence[Any], messages: Sequence[Message]) -> None:
    """Sets the teacher's log-probabilities on the samples of one rollout."""
    trajectories = [read_trajectory(sample) for sample in samples]
    told: list[list[Segment]] = list(accumulate((t.segments for t in trajectories), initial=[]))
    asked = zip(samples, trajectories, told, strict=False)
    errors = await asyncio.gather(*(_ask_about(parts, *one, messages) for one in asked))
    error = next(filter(None, errors), None)
    parts.teacher_failures.count(SERVICE if error else None, error)


async def _ask_about(
    parts: DistillParts, sample: Any, trajectory: Trajectory, before: Sequence[Segment], messages: Sequence[Message]
) -> str | None:
    """The error, if the teacher failed."""
    if sample.remove_sample or not trajectory.response_ids:
        leave_alone(sample)
        return None
    try:
        verdict = await parts.scorer.score(trajectory, messages, before)
    except (ServiceError, ProtocolError, DataError) as error:
        write_no_verdict(sample, str(error))
        return str(error)
    write_verdict(
        sample,
        verdict.log_probs,
        clip=parts.teacher.clip,
        disagreements=parts.teacher.disagreements,
        asked=verdict.asked,
        remembered=verdict.remembered,
        decode=parts.decode_one,
    )
    return None


def _messages(sample: Any) -> list[Message]:
    """The sample's prompt for a teacher with a template of its own."""
    if isinstance(sample.prompt, str):
        raise DataError(
            f"sample {sample.index}: the prompt is text, and the teacher's own template has to render its messages. "
            "Leave out --apply-chat-template, so that the sample keeps them."
        )
    return list(sample.prompt)
