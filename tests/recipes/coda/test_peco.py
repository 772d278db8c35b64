"""The reward that a planner and its executors share, and the dialect with notes and several tasks."""

from typing import Any

import pytest

from slime_search.config import load_config
from slime_search.core.dialect import Answer, CallTools, Invalid, Observation, ToolCall
from slime_search.core.engine import Completion, Finish
from slime_search.core.tool import passages_result
from slime_search.core.trajectory import Ending, Trajectory
from slime_search.dialects.tags import TagDialect
from slime_search.recipes.coda.config import CodaConfig
from slime_search.recipes.coda.recipe import EXECUTOR_TAGS, planner_tags
from slime_search.recipes.coda.reward import PecoConfig, PecoScore, peco

GOLD = ["Ada Lovelace"]
PLANNER_TAGS = planner_tags(1)
PAPER = PecoConfig(correctness_weight=6, correctness_offset=-3, format_weight=1, refinement_weight=0.5)


def run(dialect: TagDialect, *turns: str, ending: Ending | None = None) -> Trajectory:
    """Model turns with an empty result between each two."""
    built = Trajectory([0])
    for number, turn in enumerate(turns):
        if number:
            built.add_calls([ToolCall(next(iter(dialect.tools)), "q")], [passages_result(())], [0.1])
            built.add_observation(Observation("\n\nnothing\n\n", [1]))
        built.add_completion(Completion([2], [-0.5], Finish.STOP), turn)
    action = dialect.parse(turns[-1])
    if isinstance(action, Answer) and ending is None:
        built.end(Ending.ANSWERED, answer=action.text)
    else:
        built.end(ending or Ending.OUT_OF_TURNS)
    return built


PLAN = "<think> a </think>\n<task> t </task>"
RIGHT = "<think> b </think>\n<answer> Ada Lovelace </answer>"
WRONG = "<think> b </think>\n<answer> nobody </answer>"
HALF = "<think> b </think>\n<answer> Lovelace </answer>"
SEARCH = "<think> c </think>\n<search> q </search>"
REFINED = "<refine> It was Ada Lovelace. </refine>\n<answer> her </answer>"
MUSED = "<think> <refine> Ada Lovelace </refine> </think>\n<answer> her </answer>"
SLOPPY = "<answer> her </answer>"


@pytest.mark.parametrize(
    ("planner", "executors", "weights", "expected"),
    [
        ((PLAN, RIGHT), [(SEARCH, REFINED)], PecoConfig(), 1 + 0.2 + 0.1),
        ((PLAN, RIGHT), [(SEARCH, REFINED)], PAPER, 3 + 2 + 0.5),
        ((PLAN, PLAN, HALF), [(SEARCH, REFINED), (SEARCH, SLOPPY)], PAPER, 6 * 2 / 3 - 3 + 1 + 0.5 + 0.5),
        ((PLAN, WRONG), [(SEARCH, MUSED)], PAPER, -3 + 1),
        ((PLAN, "<answer> Ada Lovelace </answer>"), [(SEARCH, SLOPPY)], PAPER, 3),
        ((RIGHT,), [], PAPER, 3 + 1),
        ((PLAN, PLAN), [(SEARCH, SLOPPY)], PAPER, -3),
    ],
)
def test_by_hand(
    planner: tuple[str, ...], executors: list[tuple[str, ...]], weights: PecoConfig, expected: float
) -> None:
    assert of(planner, executors, weights).reward == pytest.approx(expected)


def of(planner: tuple[str, ...], executors: list[tuple[str, ...]], weights: PecoConfig, **config: Any) -> PecoScore:
    settings = load_config({"reward": {"metric": "f1"}, **config}, kind=CodaConfig)
    runs = [run(EXECUTOR_TAGS, *turns) for turns in executors]
    return peco(run(PLANNER_TAGS, *planner), runs, GOLD, (PLANNER_TAGS, EXECUTOR_TAGS), weights, settings)


def test_guards_against_silence_and_guessing() -> None:
    penalties = {"metric": "f1", "no_search_penalty": 0.1, "no_answer_penalty": 0.2}
    assert of((RIGHT,), [], PecoConfig(), reward=penalties).reward == pytest.approx(1 + 0.1 - 0.1)
    assert of((PLAN, PLAN), [(SEARCH, SLOPPY)], PecoConfig(), reward=penalties).reward == pytest.approx(-0.2)


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.ABORTED])
def test_a_rollout_that_was_cut_off_earns_nothing(ending: Ending) -> None:
    planner = run(PLANNER_TAGS, PLAN, ending=ending)
    settings = load_config({}, kind=CodaConfig)
    result = peco(planner, [run(EXECUTOR_TAGS, SEARCH, REFINED)], GOLD, (PLANNER_TAGS, EXECUTOR_TAGS), PAPER, settings)
    assert result.reward == 0.0


@pytest.mark.parametrize(
    ("turn", "well_formed"),
    [
        (SEARCH, True),
        (REFINED, True),
        ("<refine> a </refine> <think> b </think> <refine> c </refine> <search> d </search>", True),
        ("<search> d </search>", False),
        ("<refine> a </refine> and <search> d </search>", False),
        ("<refine> a <think> b </think> </refine> <search> d </search>", False),
        ("<think> a </think> <search> d <refine> e </refine> </search>", False),
    ],
)
def test_where_notes_may_stand(turn: str, well_formed: bool) -> None:
    assert EXECUTOR_TAGS.is_well_formed(turn) is well_formed


def test_an_action_inside_a_note_is_none() -> None:
    assert isinstance(EXECUTOR_TAGS.parse("<refine> <answer> x </answer> </refine>"), Invalid)
    assert EXECUTOR_TAGS.parse("<refine> <search> x </search> </refine><answer> y </answer>") == Answer("y")
    assert isinstance(EXECUTOR_TAGS.parse("<documents> x </documents><answer> y </answer>"), Invalid)


def test_lines_are_tasks_only_where_several_are_allowed() -> None:
    turn = "<task> one\n\n two </task>"
    assert PLANNER_TAGS.parse(turn) == CallTools((ToolCall("task", "one\n\n two"),))
    assert planner_tags(2).parse(turn) == CallTools((ToolCall("task", "one"), ToolCall("task", "two")))
