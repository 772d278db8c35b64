"""Partial rollouts: what an abort interrupts is requeued, resumed in a later rollout, and still exact."""

from typing import Any

import pytest
from aiohttp import web

from tests.slime_stack.world import World, check_completed
from tests.support.loopback import json_response, until
from tests.support.policies import question_number, spoken_turns
from tests.support.scripted_engine import Abort, Exchange
from tests.support.scripted_retriever import Lookup

# What the abort meets: number 6 in its first turn, 7 in its second, 12 in a search, 13 before its first token.
QUICK, IN_FIRST, IN_SECOND, IN_SEARCH, BEFORE_TOKEN = 0, 6, 7, 12, 13
QUESTIONS = [QUICK, IN_FIRST, IN_SECOND, IN_SEARCH, BEFORE_TOKEN]
SAMPLES = 2


def interrupt(world: World) -> None:
    """Holds every sample but the quick ones where the abort is to meet it, and those until all are held."""
    searching = 0

    def script(exchange: Exchange) -> Abort | None:
        if world.engine.aborts:
            return None
        match question_number(exchange.prompt), spoken_turns(exchange.prompt):
            case (6, 0):
                return Abort(11, held=True)
            case (7, 1):
                return Abort(5, held=True)
            case (13, 0):
                return Abort(0, held=True)
        return None

    async def gate(exchange: Exchange) -> None:
        if question_number(exchange.prompt) == QUICK:
            all_waiting = (3 * SAMPLES, SAMPLES)
            await until(lambda: world.engine.aborts > 0 or (world.engine.held, searching) == all_waiting)

    async def answer_after_the_abort(request: web.Request, proper: Any) -> web.StreamResponse:
        nonlocal searching
        searching += 1
        await until(lambda: world.engine.aborts > 0)
        return json_response(proper)

    def search_script(lookup: Lookup) -> Any:
        return answer_after_the_abort if question_number(lookup.query) == IN_SEARCH else None

    world.engine.script, world.engine.gate, world.retriever.script = script, gate, search_script


@pytest.mark.parametrize("mask_offpolicy", [False, True])
def test_aborted_samples_are_requeued_and_resumed_to_completion(mask_offpolicy: bool, world: World) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    masking = "--mask-offpolicy-in-partial-rollout" if mask_offpolicy else ""
    flags = f"--n-samples-per-prompt {SAMPLES} --partial-rollout {masking} --prompt-data {world.data_set(QUESTIONS)}"
    args = world.args(f"{flags} --rollout-batch-size 1 --over-sampling-batch-size 5 --global-batch-size {SAMPLES}")
    source = world.start(args)
    interrupt(world)
    (quick,) = generate_rollout(args, 0, source).samples
    assert world.engine.aborts == 1
    for sample in quick:
        check_completed(world, sample)

    requeued = {question_number(group[0].prompt): group for group in source.buffer}
    assert sorted(requeued) == [IN_FIRST, IN_SECOND, IN_SEARCH, BEFORE_TOKEN]
    lengths = {}
    for number, group in requeued.items():
        assert len(group) == SAMPLES
        for sample in group:
            assert (sample.status.name, sample.reward, sample.remove_sample) == ("ABORTED", 0.0, True)
            lengths[sample.index] = 0 if number == BEFORE_TOKEN else sample.response_length
            assert sample.response_length >= 1 and sample.tokens
    assert {lengths[s.index] for s in requeued[IN_FIRST]} == {11}
    assert all(s.response.endswith("</information>\n\n") for s in requeued[IN_SEARCH])

    # The next rollout takes all four, so that slime drops none of them as surplus.
    args = world.args(f"{flags} --rollout-batch-size 4 --global-batch-size {4 * SAMPLES}")
    resumed = {question_number(g[0].prompt): g for g in generate_rollout(args, 1, source).samples}
    assert sorted(resumed) == sorted(requeued)
    for group in resumed.values():
        for sample in group:
            kept = lengths[sample.index]
            view = world.check_exact(sample)
            if mask_offpolicy:
                assert sample.loss_mask == [0] * kept + view.loss_mask[kept:]
                assert any(view.loss_mask[kept:])
                sample.loss_mask = view.loss_mask
            check_completed(world, sample)
            assert len(view.loss_mask) > kept
    # A resumed turn is the same turn: nobody searched twice.
    queries = world.retriever.queries
    assert len([q for q in queries if question_number(q) == IN_SEARCH]) == SAMPLES


def test_without_partial_rollout_an_abort_leaves_nothing_behind(world: World) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    flags = f"--rollout-batch-size 1 --over-sampling-batch-size 5 --n-samples-per-prompt {SAMPLES}"
    args = world.args(f"{flags} --global-batch-size {SAMPLES} --prompt-data {world.data_set(QUESTIONS)}")
    source = world.start(args)
    interrupt(world)
    (quick,) = generate_rollout(args, 0, source).samples
    assert world.engine.aborts == 1 and source.buffer == []
    for sample in quick:
        check_completed(world, sample)
