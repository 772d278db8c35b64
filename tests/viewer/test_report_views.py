import math
from typing import Any

import orjson
import pytest

from slime_search.errors import DataError
from slime_search.records.rollout import Rollout, displayable, read_rollout
from slime_search.viewer.report import read_rollouts
from slime_search.viewer.views import RunView, Turn, questions, view


def segment(owner: str, *tokens: str, log_probs: list[float] | None = None) -> dict[str, Any]:
    return {"owner": owner, "trained": owner == "model", "tokens": tokens, "log_probs": log_probs}


def run(*segments: dict[str, Any], calls: tuple[tuple[int, str], ...] = (), role: str | None = None) -> dict[str, Any]:
    """``calls`` are (turn, query)."""
    made = [{"turn": turn, "tool": "t", "query": query, "passages": [], "latency_s": 0.1} for turn, query in calls]
    return {"role": role, "ending": "answered", "answer": "a", "segments": segments, "calls": made}


def record(*runs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    base = {"id": "0", "group": "0", "stage": "before", "question": "q", "gold_answers": ["a"], "answer": "a"}
    return {**base, "reward": 0.0, "ending": "answered", "runs": runs or [run()], **changes}


def read(*records: dict[str, Any]) -> list[Rollout]:
    return read_rollouts(records)


def seen(*runs: dict[str, Any]) -> list[RunView]:
    return list(view(read(record(*runs))[0]).runs)


def placed(one: RunView) -> list[list[str]]:
    """The queries that each segment answers, and last those that none does."""
    return [[call.query for call in calls] for calls in (*(turn.calls for turn in one.turns), one.unanswered)]


MODEL, WORLD = segment("model", "m"), segment("world", "w")


def test_a_call_belongs_to_the_observation_of_its_turn() -> None:
    (one,) = seen(run(segment("prompt", "p"), MODEL, WORLD, MODEL, WORLD, calls=((0, "first"), (1, "second"))))
    assert placed(one) == [[], [], ["first"], [], ["second"], []]


def test_a_correction_takes_a_turn_and_no_call() -> None:
    (one,) = seen(run(MODEL, {**WORLD, "is_correction": True}, MODEL, WORLD, calls=((1, "query"),)))
    assert placed(one) == [[], [], [], ["query"], []]


def test_parallel_calls_share_an_observation() -> None:
    (one,) = seen(run(MODEL, WORLD, calls=((0, "one"), (0, "two"))))
    assert placed(one) == [[], ["one", "two"], []]


def test_a_call_whose_result_never_came_back_is_kept_apart() -> None:
    (one,) = seen(run(MODEL, WORLD, MODEL, calls=((0, "found"), (1, "lost"))))
    assert placed(one) == [[], ["found"], [], ["lost"]]


def test_the_contexts_of_one_agent_count_their_turns_on() -> None:
    first, second = seen(
        run(MODEL, WORLD, MODEL, WORLD, calls=((0, "a"), (1, "b"))), run(MODEL, WORLD, calls=((2, "c"),))
    )
    assert (first.name, second.name) == ("context 0", "context 1")
    assert (placed(first), placed(second)) == ([[], ["a"], [], ["b"], []], [[], ["c"], []])


def test_the_agent_that_answers_comes_first_and_the_others_are_numbered() -> None:
    executor = run(MODEL, WORLD, calls=((0, "query"),), role="executor")
    runs = seen(executor, executor, run(MODEL, WORLD, calls=((0, "task"),), role="planner"))
    assert [one.name for one in runs] == ["planner", "executor 0", "executor 1"]
    assert [placed(one)[1] for one in runs] == [["task"], ["query"], ["query"]]


def test_turns_are_numbered_and_tokens_have_their_position() -> None:
    (one,) = seen(run(segment("prompt", "p", "p"), MODEL, MODEL, WORLD, segment("model", "n")))
    assert [(turn.number, turn.start) for turn in one.turns] == [(0, 0), (1, 2), (1, 3), (1, 4), (2, 5)]


def test_tokens_are_shaded_by_probability() -> None:
    probabilities = [1.0, 0.9, 0.89, 0.6, 0.4, 0.2, 0.01]
    log_probs = [*map(math.log, probabilities), -math.inf]
    turn = seen(run(segment("model", *"abcdefgh", log_probs=log_probs)))[0].turns[0]
    assert [classes for classes, _ in turn.tokens] == ["p0", "p0", "p1", "p2", "p3", "p4", "p5", "p5"]
    assert turn.log_probs.split()[-2:] == ["-4.61", "-Infinity"]


def test_a_token_of_probability_zero_survives_its_line() -> None:
    (rollout,) = read(record(run(segment("model", "a", "b", log_probs=[-math.inf, -0.5]))))
    assert read_rollout(orjson.loads(rollout.line())) == rollout


def test_a_long_segment_is_cut_with_its_length_known() -> None:
    turn: Turn = seen(run(segment("model", *["x"] * 2_000, log_probs=[-0.1] * 2_000)))[0].turns[0]
    assert (len(turn.tokens), turn.hidden, len(turn.log_probs.split())) == (1_500, 500, 1_500)


@pytest.mark.parametrize(("before", "after", "change"), [(0, 1, "improved"), (1, 0, "worse"), (1, 1, "same")])
def test_change_is_judged_by_exact_match(before: float, after: float, change: str) -> None:
    pair = read(record(score={"em": before}, reward=1.0), record(score={"em": after}, reward=0.5, stage="after"))
    assert [question.change for question in questions(pair)] == [change]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(), record()], "'q' occurs twice in stage 'before'"),
        ([record()], "1 questions occur in one stage only, such as 'q'"),
        ([record(stage="later")], "'0' is of stage 'later', which is not before or after"),
    ],
)
def test_stages_that_do_not_match_are_refused(records: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        questions(read(*records))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record(run(segment("modle", "x"))), r"rollouts\[0\].runs\[0\].segments\[0\].owner: .*'modle'"),
        (record(run(segment("model", "x", log_probs=[]))), r"segments\[0\]: .*log_probs has 0 values for 1 tokens"),
        (record(run(segment("model", "x", log_probs=[math.nan]))), "log_probs holds NaN"),
        (record(ending="finished"), r"rollouts\[0\].ending: .*'finished'"),
        ({"stage": "before"}, r"rollouts\[0\].id: it is missing.*more such errors"),
    ],
)
def test_bad_records_are_refused_by_field(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(bad)


def test_displayable_text_can_be_written() -> None:
    assert displayable("a\x00b\ud800c\x1b\x85\n\t") == "a\ufffdb\ufffdc\ufffd\ufffd\n\t"
    assert displayable("\ud83d\ude00") == "😀"
    assert displayable("right\u202eleft") == "right\ufffdleft"
