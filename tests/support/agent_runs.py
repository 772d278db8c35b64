"""One trajectory of the loop in memory, with a scripted engine and tool."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from slime_search.core.agent import Agent, Budget
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import Passage, ToolResult, passages_result
from slime_search.core.trajectory import Trajectory
from slime_search.core.trajectory_record import from_record, to_record
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.errors import ServiceUnavailable
from tests.support.policies import turns_of
from tests.support.scripted_engine import MemoryEngine

PROMPT = "<|im_start|>user\nWho made thing-7?<|im_end|>\n<|im_start|>assistant\n"
OUTAGE = ServiceUnavailable("retriever", "http://nowhere", "down")

Tool = Callable[[str], Any]


def tool(*results: list[str] | Exception) -> Tool:
    """Plays ``results`` one a call, the last one ever after."""
    upcoming = iter(results)

    async def search(query: str) -> ToolResult:
        found = next(upcoming, results[-1])
        if isinstance(found, Exception):
            raise found
        return passages_result(tuple(Passage("title", text) for text in found))

    return search


def agent(engine: MemoryEngine, tokenizer: Any, search: Tool) -> Agent:
    return Agent(engine, SEARCH_R1_TAGS, {"search": search}, TokenCodec(tokenizer, SEARCH_R1_TAGS.tags))


def start(tokenizer: Any) -> Trajectory:
    return Trajectory(tokenizer.encode(PROMPT, add_special_tokens=False))


def run(one: Agent, trajectory: Trajectory, budget: Budget, **options: Any) -> Trajectory:
    asyncio.run(one.run(trajectory, {"temperature": 1.0, "skip_special_tokens": False}, budget, **options))
    return trajectory


def rollout(
    tokenizer: Any, *turns: str, budget: Budget | None = None, search: Tool | None = None
) -> tuple[Trajectory, MemoryEngine]:
    engine = MemoryEngine(tokenizer, turns_of(*turns))
    budget = budget or Budget(tool_turns=2, corrections=2, turn_tokens=200)
    return run(agent(engine, tokenizer, search or tool(["made by name-7"])), start(tokenizer), budget), engine


def stored_and_read(trajectory: Trajectory) -> Trajectory:
    record = json.loads(json.dumps(to_record(trajectory)))
    return from_record(record, trajectory.token_ids, trajectory.log_probs)
