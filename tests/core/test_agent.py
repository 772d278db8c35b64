"""The loop, case by case."""

import asyncio
import json
from typing import Any

import pytest

from slime_search.core.agent import ANSWER_ROOM, Budget
from slime_search.core.tool import Passage
from slime_search.core.trajectory import Ending, Owner
from slime_search.core.trajectory_record import from_record, to_record
from slime_search.errors import DataError, InvalidQuery, ProtocolError, ServiceRejected, ServiceUnavailable
from tests.support.agent_runs import OUTAGE, agent, rollout, run, start, stored_and_read, tool
from tests.support.policies import think_answer, think_search, turns_of
from tests.support.scripted_engine import Abort, Exchange, MemoryEngine
from tests.support.training_view import training_view


def test_search_then_answer(qwen: Any) -> None:
    trajectory, engine = rollout(qwen, think_search("thing-7 maker"), think_answer("name-7"))
    assert (trajectory.ending, trajectory.answer) == (Ending.ANSWERED, "name-7")
    assert [(c.turn, c.tool, c.query) for c in trajectory.calls] == [(0, "search", "thing-7 maker")]
    assert trajectory.calls[0].passages == (Passage("title", "made by name-7"),)
    assert [s.owner for s in trajectory.segments] == [Owner.MODEL, Owner.WORLD, Owner.MODEL]
    assert list(trajectory.turns()) == [think_search("thing-7 maker"), think_answer("name-7")]
    assert trajectory.response == "".join(s.text for s in trajectory.segments)
    view = training_view(engine.exchanges)
    assert (trajectory.token_ids, trajectory.loss_mask, trajectory.log_probs) == (
        view.tokens,
        view.loss_mask,
        view.log_probs,
    )
    assert 0 < sum(view.loss_mask) < len(view.loss_mask)
    # The test means something only if the sampled tokens are not those that tokenising the text would give.
    assert qwen.encode(trajectory.response, add_special_tokens=False) != trajectory.response_ids


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_turn_to_answer_follows_the_last_search(turns: int, qwen: Any) -> None:
    budget = Budget(tool_turns=turns, corrections=0, turn_tokens=200)
    searches = [think_search(f"query {n}") for n in range(turns)]
    trajectory, _ = rollout(qwen, *searches, think_answer("name-7"), budget=budget)
    assert trajectory.ending is Ending.ANSWERED
    assert len(trajectory.calls) == turns
    greedy, engine = rollout(qwen, *searches, think_search("one more"), budget=budget)
    assert greedy.ending is Ending.OUT_OF_TURNS
    assert [call.query for call in greedy.calls] == [f"query {n}" for n in range(turns)]
    assert len(engine.exchanges) == turns + 1


@pytest.mark.parametrize("corrections", [0, 1, 2])
def test_corrections_are_bounded(corrections: int, qwen: Any) -> None:
    budget = Budget(tool_turns=2, corrections=corrections, turn_tokens=200)
    trajectory, engine = rollout(qwen, "nothing<|im_end|>", budget=budget)
    assert trajectory.ending is Ending.OUT_OF_TURNS
    assert trajectory.corrections == corrections
    assert len(engine.exchanges) == corrections + 1


def test_a_correction_does_not_use_up_a_search(qwen: Any) -> None:
    budget = Budget(tool_turns=1, corrections=1, turn_tokens=200)
    trajectory, _ = rollout(qwen, "oops<|im_end|>", think_search("q"), think_answer("a"), budget=budget)
    assert trajectory.ending is Ending.ANSWERED
    assert [call.turn for call in trajectory.calls] == [1]


def test_a_turn_that_runs_out_of_tokens_is_truncated(qwen: Any) -> None:
    trajectory, _ = rollout(qwen, "long " * 99, budget=Budget(tool_turns=1, corrections=2, turn_tokens=10))
    assert (trajectory.ending, len(trajectory.response_ids)) == (Ending.TRUNCATED, 10)


def test_an_action_that_ends_with_the_last_token_still_counts(qwen: Any) -> None:
    full, _ = rollout(qwen, think_answer("name-7"))
    tokens = len(full.response_ids)
    trajectory, engine = rollout(
        qwen, think_answer("name-7"), budget=Budget(tool_turns=1, corrections=1, turn_tokens=tokens)
    )
    assert engine.exchanges[0].finish == "length"
    assert (trajectory.ending, trajectory.answer) == (Ending.ANSWERED, "name-7")


def test_a_prompt_longer_than_the_context_never_reaches_the_engine(qwen: Any) -> None:
    room = len(start(qwen))
    trajectory, engine = rollout(
        qwen, think_answer("a"), budget=Budget(tool_turns=1, corrections=1, turn_tokens=99, context_tokens=room)
    )
    assert (trajectory.ending, engine.exchanges, trajectory.response_ids) == (Ending.TRUNCATED, [], [])


def test_the_context_leaves_room_to_answer_after_an_observation(qwen: Any) -> None:
    first, _ = rollout(qwen, think_search("q"), think_answer("a"))
    spoken = len(first.prompt_ids) + len(first.segments[0].token_ids)
    budget = Budget(tool_turns=1, corrections=1, turn_tokens=200, context_tokens=spoken + ANSWER_ROOM + 40)
    trajectory, engine = rollout(
        qwen, think_search("q"), think_answer("a"), budget=budget, search=tool(["word " * 500])
    )
    assert len(trajectory.segments[1].token_ids) <= 40
    assert engine.exchanges[1].sampling_params["max_new_tokens"] >= ANSWER_ROOM
    no_room = Budget(tool_turns=1, corrections=1, turn_tokens=200, context_tokens=spoken + ANSWER_ROOM)
    cramped, _ = rollout(qwen, think_search("q"), think_answer("a"), budget=no_room)
    assert (cramped.ending, len(cramped.calls)) == (Ending.TRUNCATED, 1)


def test_sampling_parameters_are_kept_and_not_mutated(qwen: Any) -> None:
    engine = MemoryEngine(qwen, turns_of(think_search("q"), think_answer("a")))
    one = agent(engine, qwen, tool(["p"]))
    given_params = {"temperature": 0.7, "max_new_tokens": 5, "stop": ["<|im_end|>", "</search>"], "no_stop_trim": False}
    before = json.dumps(given_params)
    asyncio.run(one.run(start(qwen), given_params, Budget(tool_turns=1, corrections=1, turn_tokens=200)))
    assert json.dumps(given_params) == before
    for exchange in engine.exchanges:
        assert exchange.sampling_params == {
            "temperature": 0.7,
            "max_new_tokens": 200,
            "stop": ["<|im_end|>", "</search>", "</answer>"],
            "no_stop_trim": True,
        }


def test_a_single_stop_string_is_one_string(qwen: Any) -> None:
    engine = MemoryEngine(qwen, turns_of(think_answer("a")))
    params = {"stop": "<|im_end|>"}
    asyncio.run(agent(engine, qwen, tool([""])).run(start(qwen), params, Budget(1, 1, 200)))
    assert engine.exchanges[0].sampling_params["stop"] == ["<|im_end|>", "</search>", "</answer>"]


def test_an_aborted_turn_goes_on_where_it_stopped(qwen: Any) -> None:
    engine = MemoryEngine(qwen, turns_of(think_search("q"), think_answer("name-7")))
    script: dict[int, Abort] = {1: Abort(5)}
    engine.script = lambda exchange: script.get(exchange.number)
    one, budget = agent(engine, qwen, tool(["p"])), Budget(tool_turns=1, corrections=0, turn_tokens=60)
    trajectory = run(one, start(qwen), budget)
    assert trajectory.ending is Ending.ABORTED
    trajectory.reopen()
    run(one, trajectory, budget)
    assert (trajectory.ending, trajectory.answer) == (Ending.ANSWERED, "name-7")
    assert list(trajectory.turns()) == [think_search("q"), think_answer("name-7")]
    assert engine.exchanges[2].sampling_params["max_new_tokens"] == 60 - 5
    assert training_view(engine.exchanges).tokens == trajectory.token_ids


def test_a_failed_search_is_repeated_on_resumption(qwen: Any) -> None:
    engine = MemoryEngine(qwen, turns_of(think_search("q"), think_answer("name-7")))
    one = agent(engine, qwen, tool(OUTAGE, ["p"]))
    trajectory = run(one, start(qwen), Budget(1, 0, 200))
    assert trajectory.ending is Ending.FAILED
    assert (trajectory.error, trajectory.failed_service) == ("retriever at http://nowhere: down", "retriever")
    assert [s.owner for s in trajectory.segments] == [Owner.MODEL]
    assert trajectory.calls == []
    trajectory.reopen()
    run(one, trajectory, Budget(1, 0, 200))
    assert (trajectory.answer, trajectory.error, trajectory.failed_service) == ("name-7", None, None)
    assert len(engine.exchanges) == 2


def test_an_engine_outage_fails_the_trajectory(qwen: Any) -> None:
    engine = MemoryEngine(qwen, turns_of(think_answer("a")))
    engine.script = lambda exchange: ServiceUnavailable("engine", "http://e", "down") if exchange.number == 0 else None
    one = agent(engine, qwen, tool([""]))
    trajectory = run(one, start(qwen), Budget(1, 0, 200))
    assert (trajectory.ending, trajectory.failed_service) == (Ending.FAILED, "engine")
    trajectory.reopen()
    assert run(one, trajectory, Budget(1, 0, 200)).answer == "a"


def test_what_can_not_be_trained_on_is_raised(qwen: Any) -> None:
    engine = MemoryEngine(qwen, turns_of(think_answer("a")))
    engine.script = lambda exchange: ProtocolError("no ids")
    with pytest.raises(ProtocolError, match="no ids"):
        run(agent(engine, qwen, tool([""])), start(qwen), Budget(1, 0, 200))


def test_cancellation_is_asked_before_each_request(qwen: Any) -> None:
    engine = MemoryEngine(qwen, turns_of(think_search("q"), think_answer("a")))
    one = agent(engine, qwen, tool(["p"]))
    trajectory = run(one, start(qwen), Budget(1, 0, 200), cancelled=lambda: len(engine.exchanges) == 1)
    assert trajectory.ending is Ending.ABORTED
    assert [s.owner for s in trajectory.segments] == [Owner.MODEL, Owner.WORLD]
    trajectory.reopen()
    assert run(one, trajectory, Budget(1, 0, 200)).answer == "a"
    assert len(trajectory.calls) == 1


def refusal(status: int | None) -> ServiceRejected:
    return ServiceRejected("engine", "http://nowhere", "refused", status=status)


@pytest.mark.parametrize(("status", "at"), [(400, 0), (401, 1), (404, 1), (None, 1)])
def test_another_refusal_of_the_engine_is_its_failure(status: int | None, at: int, qwen: Any) -> None:
    engine = MemoryEngine(qwen, turns_of(think_search("thing-7 maker")))
    engine.script = lambda exchange: refusal(status) if exchange.number == at else None
    trajectory = run(agent(engine, qwen, tool(["text"])), start(qwen), Budget(2, 0, 200))
    assert (trajectory.ending, trajectory.failed_service) == (Ending.FAILED, "engine")


def test_a_query_that_the_tool_refuses_is_an_invalid_action(qwen: Any) -> None:
    budget = Budget(tool_turns=1, corrections=1, turn_tokens=200)
    search = tool(InvalidQuery("too long"), ["made by name-7"])
    turns = think_search("bad"), think_search("good"), think_answer("a")
    trajectory, _ = rollout(qwen, *turns, budget=budget, search=search)
    assert (trajectory.ending, trajectory.corrections, trajectory.tool_turns) == (Ending.ANSWERED, 1, 1)
    assert [call.query for call in trajectory.calls] == ["good"]
    assert [s.is_valid for s in trajectory.segments if s.owner is Owner.MODEL] == [False, True, True]
    greedy, _ = rollout(qwen, think_search("bad"), budget=budget, search=tool(InvalidQuery("too long")))
    assert (greedy.ending, greedy.failed_service) == (Ending.OUT_OF_TURNS, None)


@pytest.mark.parametrize(
    ("turns", "validity"),
    [
        (["x<|im_end|>"], [False]),
        (["x<|im_end|>", think_answer("a")], [False, True]),
        ([think_search("q"), think_search("q")], [True, True]),
        (["long " * 200], [False]),
    ],
)
def test_each_turn_is_judged_also_the_last(turns: list[str], validity: list[bool], qwen: Any) -> None:
    budget = Budget(tool_turns=1, corrections=len(turns) - 1, turn_tokens=99)
    trajectory, _ = rollout(qwen, *turns, budget=budget)
    judged = stored_and_read(trajectory)
    assert [s.is_valid for s in judged.segments if s.owner is Owner.MODEL] == validity


@pytest.mark.parametrize("turns", [[think_answer("a")], ["x<|im_end|>"], ["long " * 200]])
def test_only_an_interrupted_trajectory_can_be_reopened(turns: list[str], qwen: Any) -> None:
    trajectory, _ = rollout(qwen, *turns, budget=Budget(1, 0, 99))
    with pytest.raises(DataError, match=f"ended {trajectory.ending}"):
        trajectory.reopen()


def test_a_record_and_arrays_of_different_lengths_are_refused(qwen: Any) -> None:
    trajectory, _ = rollout(qwen, think_answer("a"))
    record = to_record(trajectory)
    with pytest.raises(DataError, match="segments hold"):
        from_record(record, trajectory.token_ids[-3:], None)
    with pytest.raises(DataError, match="segments hold"):
        from_record(record, trajectory.token_ids, [0.0])


def test_the_scripted_engine_samples_what_no_tokenizer_would(qwen: Any) -> None:
    """Guards the tests above: a canonical engine would hide any re-tokenisation."""
    exchanges: list[Exchange] = [
        rollout(qwen, think_answer("name-7 and a few words more"))[1].exchanges[0] for _ in range(3)
    ]
    assert all(qwen.encode(e.text, add_special_tokens=False) != e.output_ids for e in exchanges)
