"""Whole trajectories of the tool-calling recipe, judged by a forward pass over the tokens that would be trained on.

A token's log-probability depends on every token before it, so where the engine's values agree with those of the
sample's own tokens, the sample holds exactly what the engine sampled, after exactly what it sampled it.
"""

import asyncio
from collections import Counter
from typing import Any

import aiohttp
import pytest

from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import RECORD_KEY
from slime_search.transport.client import close_sessions
from tests.conformance.conformance_client import Reference
from tests.conformance.engine_processes import Server
from tests.conformance.trajectories import TRAJECTORIES, TURN_TOKENS, arguments, asked, assert_exact, played
from tests.support.chat_rollouts import tools_recipe
from tests.support.rollouts import sampling_params
from tests.support.scripted_retriever import ScriptedRetriever

Status = LocalSample.Status


@pytest.mark.parametrize(("temperature", "turn_tokens"), [(0.0, TURN_TOKENS), (1.0, TURN_TOKENS), (0.0, 16)])
def test_trajectories_hold_what_the_engine_sampled(
    server: Server, reference: Reference, retriever: ScriptedRetriever, temperature: float, turn_tokens: int
) -> None:
    rollouts = played(tools_recipe(retriever), server, asked(as_text=True), temperature, turn_tokens=turn_tokens)
    assert all(len(rollout) == 1 for rollout in rollouts)
    samples = [rollout[0] for rollout in rollouts]
    assert_exact(samples, reference, temperature)
    assert {sample.status for sample in samples} <= {Status.COMPLETED, Status.TRUNCATED}
    records = [sample.metadata[RECORD_KEY] for sample in samples]
    assert all(record["drift"] == {"realigned": 0, "forked": 0, "lost_tokens": 0} for record in records)
    endings = Counter(segment["finish"] for record in records for segment in record["segments"])
    if turn_tokens < TURN_TOKENS:
        # Most of the answers that the model has learned are longer.
        assert endings["length"] >= TRAJECTORIES // 2
        return
    assert endings["stop"] and endings[None]
    if temperature == 0:
        # Those asked "two" call twice in their first turn.
        assert sum([call["turn"] for call in record["calls"]].count(0) == 2 for record in records) >= 10


def test_where_the_server_renders_messages_drift_is_followed(
    server: Server, reference: Reference, retriever: ScriptedRetriever
) -> None:
    recipe = tools_recipe(retriever, chat={"token_in": "messages"})
    rollouts = played(recipe, server, asked(as_text=False))
    assert_exact([sample for rollout in rollouts for sample in rollout], reference)
    drift = Counter[str]()
    for rollout in rollouts:
        drift.update(rollout[-1].metadata[RECORD_KEY]["drift"])
        assert len({sample.rollout_id for sample in rollout}) == 1
        assert len({sample.reward for sample in rollout}) == 1
    assert drift["realigned"]


def test_an_aborted_trajectory_goes_on_in_the_middle_of_its_turn(
    server: Server, reference: Reference, retriever: ScriptedRetriever
) -> None:
    recipe, args = tools_recipe(retriever), arguments(server)
    # A question that the model has no answer to by heart, so that it rambles.
    samples = [LocalSample(index=n, prompt=[{"role": "user", "content": f"{n}!"}], label="x") for n in range(8)]
    params = sampling_params(max_new_tokens=700, ignore_eos=True)

    async def aborted() -> list[Any]:
        running = asyncio.gather(*(recipe.generate(args, sample, params) for sample in samples))
        async with aiohttp.ClientSession() as session:
            while not running.done():
                await asyncio.sleep(0.3)
                async with session.post(f"{server.url}/abort_request", json={"abort_all": True}) as response:
                    assert response.status == 200
        return await running

    async def twice() -> None:
        try:
            await aborted()
            assert all(sample.status is Status.ABORTED and sample.remove_sample for sample in samples)
            assert any(sum(sample.loss_mask or ()) > 0 for sample in samples)
            await asyncio.gather(*(recipe.generate(args, sample, params) for sample in samples))
        finally:
            await close_sessions()

    asyncio.run(twice())
    assert all(sample.status is Status.TRUNCATED and not sample.remove_sample for sample in samples)
    assert_exact(samples, reference)
