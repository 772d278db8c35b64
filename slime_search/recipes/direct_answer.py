"""The two baselines of every search agent: an answer without a search, and one after a single search for the question.

Neither is trained, so nothing is taken off for the format: the reward is the metric alone.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slime_search.config import SearchConfig
from slime_search.core.agent import ANSWER_ROOM, Agent
from slime_search.core.cancellation import unless_cancelled
from slime_search.core.chat_prompt import chat_prompt
from slime_search.core.dialect import Observation, ToolCall
from slime_search.core.tokens import TokenCodec, Tokenizer
from slime_search.core.trajectory import Ending
from slime_search.dialects.cutting import fit_blocks
from slime_search.dialects.tags import TagDialect
from slime_search.errors import DataError, Interrupted, InvalidQuery, ServiceError
from slime_search.hooks.contract import Args, Messages
from slime_search.recipes.base import PolicyParts, Rollout, SearchRecipe

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


class DirectAnswer(SearchRecipe[PolicyParts]):
    """One turn, from what the model knows."""

    format = ANSWER_TAGS

    def __init__(self, configs: Mapping[str, Any]) -> None:
        super().__init__({"format_score": 0.0, **configs})

    async def _run(self, parts: PolicyParts, rollout: Rollout) -> None:
        budget = replace(rollout.budget, tool_turns=0, corrections=0)
        await rollout.run(Agent(parts.engine, ANSWER_TAGS, {}, parts.codec), budget)

    def _build(self, args: Args, config: SearchConfig, tokenizer: Tokenizer) -> PolicyParts:
        return PolicyParts(args, config, tokenizer, ANSWER_TAGS.tags)


class RetrieveThenAnswer(DirectAnswer):
    """Retrieval-augmented generation: one search with the question as it is, then one turn.

    The passages stand inside the prompt's message, and the record has them, with what the chat template writes after
    them, as the world's.
    """

    async def _run(self, parts: PolicyParts, rollout: Rollout) -> None:
        if not rollout.trajectory.segments:
            try:
                await self._add_passages(parts, rollout)
            except ServiceError as error:
                rollout.trajectory.fail(error)
            except InvalidQuery as error:
                raise DataError(f"sample {rollout.sample.index}, question: {error}") from error
            except Interrupted:
                rollout.trajectory.end(Ending.ABORTED)
        await super()._run(parts, rollout)

    async def _add_passages(self, parts: PolicyParts, rollout: Rollout) -> None:
        """Searches for the question and appends what is found. Raises ServiceError, InvalidQuery and Interrupted."""
        trajectory, codec, budget = rollout.trajectory, parts.codec, rollout.budget
        question = rollout.sample.metadata["question"]
        start = time.perf_counter()
        search = parts.search(question)
        result = await (search if rollout.cancelled is None else unless_cancelled(rollout.cancelled, search))
        latency_s = time.perf_counter() - start
        _, after = _around_passages(codec, rollout.sample.prompt)
        after_ids = codec.trusted(after)
        room = budget.observation_tokens
        if budget.context_tokens is not None:
            left = max(budget.context_tokens - len(trajectory) - len(after_ids) - ANSWER_ROOM, 0)
            room = left if room is None else min(room, left)
        read = fit_blocks(codec.between, result.blocks, room)
        trajectory.add_calls([ToolCall("search", question)], [result], [latency_s])
        trajectory.add_observation(Observation(f"{read.text}{after}", read.token_ids + after_ids))

    def _prompt_ids(self, parts: PolicyParts, prompt: str | Messages) -> list[int]:
        return parts.codec.trusted(_around_passages(parts.codec, prompt)[0])


def _around_passages(codec: TokenCodec, prompt: str | Messages) -> tuple[str, str]:
    """What the rendered prompt says before the passages and after them."""
    if not isinstance(prompt, str):
        prompt = chat_prompt(codec.tokenizer, prompt)
    before, found, after = prompt.rpartition(PASSAGES)
    if not found:
        raise DataError(
            "prompt: it has no place for passages; ask with RAG_PROMPT of slime_search.recipes.direct_answer"
        )
    return before, after
