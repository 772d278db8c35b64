"""The two baselines of every search agent: an answer without a search, and one after a single search for the question.

Neither is trained, so nothing is taken off for the format: the reward is the metric alone.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slime_search.config import SearchConfig
from slime_search.core.agent import ANSWER_ROOM, Agent, Budget
from slime_search.core.dialect import Observation, ToolCall
from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Trajectory
from slime_search.dialects.cutting import fit_blocks
from slime_search.dialects.tags import TagDialect
from slime_search.errors import DataError, ServiceError
from slime_search.hooks.runtime import policy_engine, runtime
from slime_search.hooks.samples import open_trajectory, write_back
from slime_search.recipes.base import Parts, SearchRecipe, budget_of

ANSWER_TAGS = TagDialect(tools={})
PASSAGES = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Where ``RAG_PROMPT`` has its passages: the last one in the prompt, so that a question may hold the character too."""

_HOW = (
    "First think inside <think> and </think>. Then give the answer inside <answer> and </answer>, as short as possible "
    "and without explanation. For example, <answer> Beijing </answer>."
)
DIRECT_PROMPT = f"Answer the given question. {_HOW} Question: {{question}}\n"
RAG_PROMPT = (
    f"Answer the given question with the help of the passages below it. {_HOW} Question: {{question}}\n"
    f"Passages:\n{PASSAGES}\n"
)


class DirectAnswer(SearchRecipe["AnswerParts"]):
    """One turn, from what the model knows."""

    format = ANSWER_TAGS

    def __init__(self, configs: Mapping[str, Any]) -> None:
        super().__init__({"format_score": 0.0, **configs})

    async def generate(self, args: Any, sample: Any, sampling_params: Mapping[str, Any]) -> Any:
        """slime's ``--custom-generate-function-path``: runs or resumes one trajectory and returns ``sample``.

        Raises:
            TooManyFailures: the share of failed trajectories is over ``max_failure_share``.
            ProtocolError: the engine's answers can't be read.
            DataError: the prompt is not this recipe's.
        """
        here = runtime(args)
        parts = self._parts(args)
        codec = parts.codec(here.tokenizer)
        trajectory = open_trajectory(sample, lambda prompt: self._prompt_ids(codec, prompt))
        known_segments = len(trajectory.segments)
        budget = replace(budget_of(args, parts.config, sampling_params), tool_turns=0, corrections=0)
        try:
            if not trajectory.segments:
                await self._inform(trajectory, sample, parts, codec, budget)
        except ServiceError as error:
            trajectory.fail(error)
        await Agent(parts.engine, ANSWER_TAGS, {}, codec).run(
            trajectory, sampling_params, budget, session_id=sample.session_id, cancelled=here.cancelled
        )
        write_back(args, sample, trajectory, known_segments=known_segments, with_log_probs=parts.config.return_logprob)
        parts.failures.observe(trajectory)
        return sample

    def _prompt_ids(self, codec: TokenCodec, prompt: Any) -> list[int]:
        return codec.prompt(prompt)

    async def _inform(
        self, trajectory: Trajectory, sample: Any, parts: "AnswerParts", codec: TokenCodec, budget: Budget
    ) -> None:
        """Adds what the model may read before it answers. Raises ServiceError."""

    def _build(self, args: Any, config: SearchConfig) -> "AnswerParts":
        return AnswerParts(args, config)


class RetrieveThenAnswer(DirectAnswer):
    """Retrieval-augmented generation: one search with the question as it is, then one turn.

    The passages stand inside the prompt's message, and the record has them, with what the chat template writes after
    them, as the world's.
    """

    def _prompt_ids(self, codec: TokenCodec, prompt: Any) -> list[int]:
        return codec.trusted(_around_passages(codec, prompt)[0])

    async def _inform(
        self, trajectory: Trajectory, sample: Any, parts: "AnswerParts", codec: TokenCodec, budget: Budget
    ) -> None:
        question = sample.metadata["question"]
        began = time.perf_counter()
        result = await parts.search(question)
        latency_s = time.perf_counter() - began
        _, after = _around_passages(codec, sample.prompt)
        after_ids = codec.trusted(after)
        room = budget.observation_tokens
        if budget.context_tokens is not None:
            left = max(budget.context_tokens - len(trajectory) - len(after_ids) - ANSWER_ROOM, 0)
            room = left if room is None else min(room, left)
        read = fit_blocks(codec.between, result.blocks, room)
        trajectory.add_calls([ToolCall("search", question)], [result], [latency_s])
        trajectory.add_observation(Observation(f"{read.text}{after}", read.token_ids + after_ids))


class AnswerParts(Parts):
    """With the policy's engine and codec."""

    def __init__(self, args: Any, config: SearchConfig) -> None:
        super().__init__(args, config)
        self.engine = policy_engine(args, config)
        self._codec: TokenCodec | None = None

    def codec(self, tokenizer: Any) -> TokenCodec:
        if self._codec is None or self._codec.tokenizer is not tokenizer:
            self._codec = TokenCodec(tokenizer, ANSWER_TAGS.tags)
        return self._codec


def _around_passages(codec: TokenCodec, prompt: Any) -> tuple[str, str]:
    """What the rendered prompt says before the passages and after them."""
    if not isinstance(prompt, str):
        prompt = codec.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    before, place, after = prompt.rpartition(PASSAGES)
    if not place:
        raise DataError(
            "prompt: it has no place for passages; ask with RAG_PROMPT of slime_search.recipes.direct_answer"
        )
    return before, after
