import math
from typing import Any

import pytest

from slime_search.errors import DataError
from slime_search.report.records import Trajectory, displayable, read_trajectories
from slime_search.report.views import Turn, questions, view


def segment(owner: str, *tokens: str, log_probs: list[float] | None = None) -> dict[str, Any]:
    return {"owner": owner, "trained": owner == "model", "tokens": tokens, "log_probs": log_probs}


def record(*segments: dict[str, Any], queries: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    searches = [{"query": query, "passages": [], "latency_s": 0.1} for query in queries]
    outcome = {"answer": "a", "reward": 0.0, "em": 0.0, "ending": "answered"}
    base = {"stage": "before", "question": "q", "gold_answers": ["a"], **outcome}
    return {**base, "searches": searches, "segments": segments, **changes}


def read(*records: dict[str, Any]) -> list[Trajectory]:
    return read_trajectories(records)


def placed(trajectory: dict[str, Any]) -> list[list[str]]:
    """The queries that each turn answers, and last those that none does."""
    result = view(read(trajectory)[0])
    return [[s.query for s in searches] for searches in (*(turn.searches for turn in result.turns), result.unanswered)]


def test_a_search_belongs_to_the_observation_after_its_query() -> None:
    trajectory = record(
        segment("model", "<search>", "first", "</search>"),
        segment("world", "one"),
        segment("model", "<search>", "second", "</search>"),
        segment("world", "two"),
        queries=("first", "second"),
    )
    assert placed(trajectory) == [[], ["first"], [], ["second"], []]


def test_an_observation_without_a_search_gets_none() -> None:
    trajectory = record(
        segment("model", "gibberish"),
        segment("world", "that was invalid"),
        segment("model", "<search> que", "ry</search>"),
        segment("world", "found"),
        queries=("query",),
    )
    assert placed(trajectory) == [[], [], [], ["query"], []]


def test_the_same_query_twice_is_shown_at_both_turns() -> None:
    turn = segment("model", "<search>again</search>"), segment("world", "found")
    assert placed(record(*turn, *turn, queries=("again", "again"))) == [[], ["again"], [], ["again"], []]


def test_parallel_searches_share_an_observation() -> None:
    trajectory = record(segment("model", "one", "two"), segment("world", "both"), queries=("one", "two"))
    assert placed(trajectory) == [[], ["one", "two"], []]


def test_a_query_in_a_split_script_goes_to_the_next_observation() -> None:
    turn = segment("model", "<search>\ufffd\ufffd</search>"), segment("world", "found")
    assert placed(record(*turn, *turn, queries=("東京", "京都"))) == [[], ["東京"], [], ["京都"], []]


def test_a_search_whose_result_never_came_back_is_kept_apart() -> None:
    assert placed(record(segment("model", "<search>lost</search>"), queries=("lost",))) == [[], ["lost"]]


def test_turns_are_numbered_and_tokens_have_their_position() -> None:
    turns = view(
        read(record(segment("prompt", "p", "p"), segment("model", "m"), segment("world", "w"), segment("model", "n")))[
            0
        ]
    ).turns
    assert [(turn.number, turn.start) for turn in turns] == [(0, 0), (1, 2), (1, 3), (2, 4)]


def test_tokens_are_shaded_by_probability() -> None:
    probabilities = [1.0, 0.9, 0.89, 0.6, 0.4, 0.2, 0.01]
    log_probs = [*map(math.log, probabilities), -math.inf]
    turn = view(read(record(segment("model", *"abcdefgh", log_probs=log_probs)))[0]).turns[0]
    assert [classes for classes, _ in turn.tokens] == ["p0", "p0", "p1", "p2", "p3", "p4", "p5", "p5"]
    assert turn.log_probs.split()[-2:] == ["-4.61", "-Infinity"]


def test_a_long_segment_is_cut_with_its_length_known() -> None:
    turn: Turn = view(read(record(segment("model", *["x"] * 2_000, log_probs=[-0.1] * 2_000)))[0]).turns[0]
    assert (len(turn.tokens), turn.hidden, len(turn.log_probs.split())) == (1_500, 500, 1_500)


@pytest.mark.parametrize(("before", "after", "change"), [(0, 1, "improved"), (1, 0, "worse"), (1, 1, "same")])
def test_change_is_judged_by_exact_match(before: float, after: float, change: str) -> None:
    pair = read(record(em=before, reward=1.0), record(em=after, reward=0.5, stage="after"))
    assert [question.change for question in questions(pair)] == [change]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(), record()], "'q' occurs twice in stage 'before'"),
        ([record()], "1 questions occur in one stage only, such as 'q'"),
    ],
)
def test_stages_that_do_not_match_are_refused(records: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        questions(read(*records))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record(segment("modle", "x")), r"trajectories\[0\].segments\[0\].owner: .*'modle'"),
        (record(segment("model", "x", log_probs=[])), r"segments\[0\]: .*log_probs has 0 values for 1 tokens"),
        (record(segment("model", "x", log_probs=[math.nan])), "log_probs holds NaN"),
        (record(ending="finished"), r"trajectories\[0\].ending: .*'finished'"),
        ({"stage": "before"}, r"trajectories\[0\].question: Field required.*more such errors"),
    ],
)
def test_bad_records_are_refused_by_field(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(bad)


def test_displayable_text_can_be_written() -> None:
    assert displayable("a\x00b\ud800c\x1b\x85\n\t") == "a\ufffdb\ufffdc\ufffd\ufffd\n\t"
    assert displayable("\ud83d\ude00") == "😀"
    assert displayable("right\u202eleft") == "right\ufffdleft"
