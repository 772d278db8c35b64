"""The reward of a trajectory: what scores, how much, and what never does."""

from typing import Any

import pytest

from slime_search.config import SearchConfig, load_config
from slime_search.core.dialect import Answer, Observation, ToolCall
from slime_search.core.engine import Completion, Finish
from slime_search.core.tool import Passage, passages_result
from slime_search.core.trajectory import Ending, Trajectory
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.errors import ServiceUnavailable
from slime_search.rewards.format import is_well_formed
from slime_search.rewards.search import Score, retrieval_hit, score
from tests.support.policies import think_answer, think_search

GOLD = ["Ada Lovelace"]


def observation(text: str) -> Observation:
    """As the dialect frames it; the token ids play no part in a score."""
    return Observation(f"\n\n<information>{text}</information>\n\n", [1])


def trajectory(*parts: str | Observation, ending: Ending | None = None) -> Trajectory:
    """Model turns and observations in order; the last turn's answer counts, as it does in the loop."""
    built = Trajectory([0])
    for part in parts:
        if isinstance(part, Observation):
            call, result = ToolCall("search", "q"), passages_result((Passage("", part.text),))
            built.add_calls([call], [result], [0.1])
            built.add_observation(part)
        else:
            built.add_completion(Completion([2], [-0.5], Finish.STOP), part)
    action = SEARCH_R1_TAGS.parse(parts[-1]) if parts and isinstance(parts[-1], str) else None
    if isinstance(action, Answer):
        built.end(Ending.ANSWERED, answer=action.text)
    else:
        built.end(ending or Ending.OUT_OF_TURNS)
    return built


def correction() -> Observation:
    return Observation("\nMy previous action is invalid. <answer> and </answer>. Let me try again.\n", [1])


def reward(built: Trajectory, **config: Any) -> float:
    return score(built, GOLD, SEARCH_R1_TAGS, load_config({"format_score": 0.2, **config})).reward


RIGHT = (think_search("q"), observation("text"), think_answer("Ada Lovelace"))
WRONG = (think_search("q"), observation("text"), think_answer("Charles Babbage"))
NEAR = (think_search("q"), observation("text"), think_answer("Lovelace"))
SLOPPY_RIGHT = ("<search>q</search>", observation("text"), "<answer>Ada Lovelace</answer>")
SLOPPY_NEAR = ("<search>q</search>", observation("text"), "<answer>Lovelace</answer>")
SLOPPY_WRONG = ("<search>q</search>", observation("text"), "<answer>Charles Babbage</answer>")
UNSEARCHED = (think_answer("Ada Lovelace"),)
SILENT = (think_search("q"), observation("text"), think_search("q"))

F1 = {"reward": {"metric": "f1"}}
PENALTIES = {"reward": {"no_search_penalty": 0.1, "no_answer_penalty": 0.3}}


@pytest.mark.parametrize(
    ("parts", "config", "expected"),
    [
        (RIGHT, {}, 1.0),
        (WRONG, {}, 0.2),
        (NEAR, {}, 0.2),
        (SLOPPY_RIGHT, {}, 0.8),
        (SLOPPY_WRONG, {}, 0.0),
        (UNSEARCHED, {}, 1.0),
        (SILENT, {}, 0.0),
        (RIGHT, {"format_score": 0.0}, 1.0),
        (WRONG, {"format_score": 0.0}, 0.0),
        (SLOPPY_RIGHT, {"format_score": 0.0}, 1.0),
        (WRONG, {"format_score": 0.5}, 0.5),
        (SLOPPY_RIGHT, {"format_score": 0.5}, 0.5),
        (RIGHT, F1, 1.0),
        (NEAR, F1, 2 / 3),
        (SLOPPY_NEAR, F1, 2 / 3 - 0.2),
        (WRONG, F1, 0.2),
        (SLOPPY_WRONG, F1, 0.0),
        (RIGHT, PENALTIES, 1.0),
        (UNSEARCHED, PENALTIES, 0.9),
        (SILENT, PENALTIES, -0.3),
        (("nothing",), PENALTIES, -0.4),
    ],
)
def test_rewards(parts: tuple[Any, ...], config: dict[str, Any], expected: float) -> None:
    assert reward(trajectory(*parts), **config) == pytest.approx(expected)


def test_the_parts_of_a_score() -> None:
    result = score(trajectory(*NEAR), GOLD, SEARCH_R1_TAGS, SearchConfig())
    assert result == Score(
        reward=0.2,
        em=0.0,
        f1=pytest.approx(2 / 3),
        cover_em=0.0,
        well_formed=1.0,
        retrieval_hit=0.0,
        searched=1.0,
        answered=1.0,
    )
    wordy = score(trajectory(think_answer("It is Ada Lovelace")), GOLD, SEARCH_R1_TAGS, SearchConfig())
    assert (wordy.em, wordy.cover_em, wordy.searched) == (0.0, 1.0, 0.0)
    silent = score(trajectory(*SILENT), GOLD, SEARCH_R1_TAGS, SearchConfig())
    assert (silent.em, silent.f1, silent.cover_em, silent.answered) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("config", [{}, F1, PENALTIES])
def test_a_failed_or_aborted_trajectory_scores_zero(config: dict[str, Any]) -> None:
    aborted = trajectory(think_search("q"), ending=Ending.ABORTED)
    failed = trajectory(think_search("q"), observation("Ada Lovelace"), think_search("q"))
    failed.fail(ServiceUnavailable("retriever", "http://r", "down"))
    assert reward(aborted, **config) == reward(failed, **config) == 0.0


def test_an_answer_counts_only_as_the_accepted_answer() -> None:
    """The gold answer appears wherever a regex over the transcript would find it, and earns nothing."""
    planted = "<answer>Ada Lovelace</answer>"
    cases = [
        (think_search("q"), observation(f"</information>{planted}"), think_answer("wrong")),
        (think_search("q"), observation(planted), think_search("q")),
        (think_search(planted), correction(), think_answer("wrong")),
        (f"<think>{planted}</think><answer>wrong</answer>",),
        (f"<information>{planted}</information>", correction(), think_answer("wrong")),
        (f"{planted}{planted}",),
        (f"{planted}<answer>wrong</answer>",),
    ]
    for parts in cases:
        result = score(trajectory(*parts), GOLD, SEARCH_R1_TAGS, SearchConfig())
        assert (result.em, result.f1, result.cover_em) == (0.0, 0.0, 0.0), parts
        assert result.reward <= 0.2


WELL_FORMED = [RIGHT, WRONG, UNSEARCHED, (think_search("a"), observation(""), *RIGHT)]
NOT_WELL_FORMED = [
    (),
    SLOPPY_RIGHT,
    SILENT,
    (think_search("q"),),
    (think_search("q"), observation("x")),
    ("no action", think_answer("a")),
    (think_answer("a"), observation("x"), think_answer("a")),
    (observation("x"), think_answer("a")),
    (think_search("q"), observation("x"), observation("x"), think_answer("a")),
    (think_search("q"), observation("x"), "<answer>a</answer>"),
]


@pytest.mark.parametrize("parts", WELL_FORMED)
def test_well_formed_trajectories(parts: tuple[Any, ...]) -> None:
    assert is_well_formed(trajectory(*parts), SEARCH_R1_TAGS)


@pytest.mark.parametrize("parts", NOT_WELL_FORMED)
def test_malformed_trajectories(parts: tuple[Any, ...]) -> None:
    assert not is_well_formed(trajectory(*parts), SEARCH_R1_TAGS)


def test_a_correction_breaks_the_format() -> None:
    corrected = Trajectory([0])
    corrected.add_completion(Completion([2], [-0.5], Finish.STOP), think_search("q"))
    corrected.add_observation(correction(), is_correction=True)
    corrected.add_completion(Completion([2], [-0.5], Finish.STOP), think_answer("a"))
    assert not is_well_formed(corrected, SEARCH_R1_TAGS)


def test_an_interrupted_turn_is_one_turn() -> None:
    resumed, whole = Trajectory([0]), think_answer("Ada Lovelace")
    resumed.add_completion(Completion([2], [-0.5], Finish.ABORT), whole[:20])
    resumed.add_completion(Completion([2], [-0.5], Finish.STOP), whole[20:])
    resumed.end(Ending.ANSWERED, answer="Ada Lovelace")
    assert is_well_formed(resumed, SEARCH_R1_TAGS)
    assert reward(resumed) == 1.0


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("Doc 1(Title: Ada Lovelace) wrote it", 1.0),
        ("Doc 1(Title: Engine) by Ada Lovelace, they say", 1.0),
        ("Doc 1(Title: Engine) The author is Ada Lovelace.", 1.0),
        ("Ada Lovelace is the author", 1.0),
        ("Doc 1(Title: Engine) by Charles Babbage", 0.0),
        ("", 0.0),
    ],
)
def test_retrieval_hit(text: str, hit: float) -> None:
    built = trajectory(think_search("q"), observation(text), think_answer("wrong"))
    assert retrieval_hit(built, GOLD) == hit


def test_only_what_a_tool_returned_is_a_retrieval_hit() -> None:
    assert retrieval_hit(trajectory(think_answer("Ada Lovelace")), GOLD) == 0.0
    mentioned = Trajectory([0])
    mentioned.add_observation(Observation("Ada Lovelace", [1]), is_correction=True)
    assert retrieval_hit(mentioned, GOLD) == 0.0
