"""Samples through the tool-calling recipe against the scripted servers, without slime."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from slime_search.hooks.contract import LocalSample
from slime_search.recipes.base import SearchRecipe
from slime_search.recipes.search_r1_tools import SearchR1Tools
from slime_search.transport.client import close_sessions
from tests.support.policies import question_number
from tests.support.rollouts import sampling_params
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import Exchange, Policy
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.training_view import training_view

BEGIN = "<|im_start|>assistant\n"


def by_chat_turn(turn: Callable[[int, str], str], begin: str = BEGIN) -> Policy:
    """A policy that asks ``turn`` for the turn of this number in this context, and goes on inside one that is begun."""

    def policy(context: str) -> str:
        start = context.rindex(begin) + len(begin)
        whole, begun = turn(context.count(begin) - 1, context[:start]), context[start:]
        assert whole.startswith(begun), f"the context holds {begun!r}, the policy wanted {whole!r}"
        return whole[len(begun) :]

    return policy


def chat_turns(*turns: str, begin: str = BEGIN) -> Policy:
    """Says ``turns`` in order, and the last one ever after."""
    return by_chat_turn(lambda number, _: turns[min(number, len(turns) - 1)], begin)


def call(query: str, name: str = "search") -> str:
    function = json.dumps({"name": name, "arguments": {"query": query}})
    return f"<tool_call>\n{function}\n</tool_call>"


def tools_recipe(retriever: ScriptedRetriever | None, **config: Any) -> SearchR1Tools:
    """Few attempts, and no number of failures stops it, unless ``config`` says otherwise."""
    url = retriever.search_url if retriever else "http://127.0.0.1:9/retrieve"
    defaults = {"local": {"search_url": url}, "search_attempts": 2, "engine_attempts": 2, "max_failure_share": 1.0}
    return SearchR1Tools({**defaults, **config})


def asking(number: int = 7, **overrides: Any) -> LocalSample:
    """A sample whose prompt is chat messages."""
    fields = {
        "index": number,
        "group_index": number,
        "prompt": [{"role": "user", "content": f"Who made thing-{number}?"}],
        "label": f"name-{number}",
        "session_id": f"session-{number}",
    }
    return LocalSample(**{**fields, **overrides})


def generate_all(
    one: SearchRecipe[Any], args: Any, samples: Sequence[LocalSample], params: dict[str, Any] | None = None
) -> list[Any]:
    """Generates and scores like slime's rollout; each item is a sample or, where the recipe fans out, a list."""
    shared = sampling_params() if params is None else params

    async def single(sample: LocalSample) -> Any:
        result: Any = await one.generate(args, sample, shared)
        parts = result if isinstance(result, list) else [result]
        if any(part.status is LocalSample.Status.ABORTED for part in parts):
            return result
        unscored = [part for part in parts if part.reward is None]
        rewards = await one.reward_func(args, unscored)
        assert isinstance(rewards, list)
        for part, reward in zip(unscored, rewards, strict=True):
            part.reward = reward
        return result

    async def all_of_them() -> list[Any]:
        # All are waited for, so that none opens a session after they are closed.
        results = await asyncio.gather(*map(single, samples), return_exceptions=True)
        await close_sessions()
        return results

    results = asyncio.run(all_of_them())
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def turns_of_sample(engine: ScriptedChat, sample: LocalSample) -> list[Exchange]:
    """The delivered requests of one trajectory, which the session id marks."""
    return [e for e in engine.turns if e.headers.get("X-SMG-Routing-Key") == sample.session_id]


def sampled_by(exchanges: Sequence[Exchange]) -> set[tuple[tuple[int, ...], int, float]]:
    """Each sampled token with the context that it was sampled after, and its log-probability."""
    return {
        ((*e.input_ids, *e.output_ids[:at]), token, e.log_probs[at])
        for e in exchanges
        for at, token in enumerate(e.output_ids)
    }


def trained_in(samples: Sequence[LocalSample]) -> list[tuple[tuple[int, ...], int, float]]:
    """Each token of mask 1 with what stands before it, and its log-probability."""
    found = []
    for sample in samples:
        assert sample.loss_mask is not None and sample.rollout_log_probs is not None
        start = len(sample.tokens) - sample.response_length
        rows = zip(sample.loss_mask, sample.rollout_log_probs, strict=True)
        for at, (mask, log_prob) in enumerate(rows, start):
            if mask:
                found.append((tuple(sample.tokens[:at]), sample.tokens[at], log_prob))
    return found


def diligent(number: int, context: str, end: str = "<|im_end|>") -> str:
    """Searches for the thing in question, then answers it."""
    thing = question_number(context)
    if number == 0:
        return f"<think>\nI look it up.\n</think>\n\n{call(f'thing-{thing} maker')}{end}"
    return f"<think>\nThe passage says it.\n</think>\n\n<answer> name-{thing} </answer>{end}"


def check_exact(engine: ScriptedChat, sample: LocalSample) -> None:
    """The sample is the engine's requests and answers, bit by bit."""
    view = training_view(turns_of_sample(engine, sample))
    assert (sample.tokens, sample.loss_mask, sample.rollout_log_probs) == (view.tokens, view.loss_mask, view.log_probs)
    assert sample.response_length == len(view.loss_mask)
