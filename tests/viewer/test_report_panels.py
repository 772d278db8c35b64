"""The panels say what the rows say, whatever is missing of them."""

import math
import struct
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from slime_search.errors import DataError
from slime_search.viewer.panels import MOST_RUNS, PANELS, draw_panels
from tests.viewer.sample_run import sample_run


def row(phase: str, step: int, **values: Any) -> dict[str, Any]:
    return {"phase": phase, "step": step, **values}


def labels(svg: bytes) -> set[str]:
    """matplotlib leaves each text of an SVG in a comment."""
    text = svg.decode()
    return {part.split(" -->")[0] for part in text.split("<!-- ")[1:]}


def drawn(*rows: dict[str, Any], title: str = "A run", **runs: Any) -> set[str]:
    return labels(draw_panels({"run": rows, **runs}, title=title, kind="svg"))


def test_the_png_is_as_wide_as_its_columns() -> None:
    data = draw_panels({"run": sample_run().metrics}, title="A run")
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">I", data[16:20]) == (1860,)


def test_every_panel_has_its_name_and_its_change() -> None:
    rows = [row("eval", step, **dict.fromkeys((panel.key for panel in PANELS), 0.25 + step / 4)) for step in (0, 1)]
    told = drawn(*rows)
    assert {panel.title for panel in PANELS} <= told
    assert {"25% → 50%", "0.25 → 0.5"} <= told


def test_a_panel_of_which_nothing_is_known_is_left_out() -> None:
    told = drawn(row("train", 1, reward=0.5), row("eval", 0, em=None, reward=0.25), row("eval", 1, em=math.nan))
    assert {"reward", "0.25"} <= told
    assert not {panel.title for panel in PANELS if panel.key != "reward"} & told


def test_a_step_that_is_not_finite_is_not_drawn() -> None:
    rows = [row("train", 1, reward=0.5), {"phase": "train", "step": math.nan, "reward": 0.75}]
    assert "0.5" in drawn(*rows)


def test_the_legend_states_what_was_drawn() -> None:
    many = [row("train", step, reward=0.5) for step in range(50)]
    assert "training, mean of 7 steps" in drawn(*many)
    assert "training" in drawn(*many[:10])
    assert "evaluation, 95% interval, n = 200" in drawn(row("eval", 0, em=0.5, n=200))
    sets = [row("eval", 0, em=em, set=name) for name, em in (("nq", 0.25), ("popqa", 0.75))]
    assert {"evaluation, mean of 2 sets", "50%"} <= drawn(*sets)
    alone = drawn(row("eval", 0, em=0.5), row("eval_alone", 0, em=0.4))
    assert "evaluation without a teacher" in alone


def test_runs_are_compared_by_their_names() -> None:
    told = drawn(row("train", 1, reward=0.5), other=[row("eval", 1, reward=0.25)])
    assert {"run", "other", "training", "evaluation"} <= told
    assert "0.25" not in told, "the change is told of a single run"


@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])  # A drawing takes a second; shrinking takes many.
@given(
    steps=st.lists(st.integers(0, 10_000), min_size=1, max_size=6, unique=True),
    value=st.floats(0, 1),
    keys=st.sets(st.sampled_from([panel.key for panel in PANELS]), min_size=1),
)
def test_any_rows_are_drawn_in_whatever_order(steps: list[int], value: float, keys: set[str]) -> None:
    rows = [row(phase, step, n=10, **dict.fromkeys(keys, value)) for step in steps for phase in ("train", "eval")]
    there, back = (draw_panels({"run": order}, title="t", kind="svg") for order in (rows, rows[::-1]))
    assert there == back


def test_dark_is_drawn_on_no_background() -> None:
    rows = [row("eval", 0, em=0.5)]
    light, dark = (draw_panels({"run": rows}, title="t", kind="svg", dark=dark) for dark in (False, True))
    assert b"#ffffff" in light
    assert b"#ffffff" not in dark


def test_a_title_and_a_name_are_texts_and_not_formulas() -> None:
    told = drawn(row("eval", 0, em=0.5), title="5 $ and $ \\frac", **{"$x$ _": [row("eval", 0, em=0.5)]})
    assert {"5 $ and $ \\frac", "$x$ _"} <= told


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "none of 0 rows"),
        ([row("cold_start", 1, loss=1.0)], "none of 1 rows"),
        ([{"phase": "train", "reward": 1.0}], "lacks the key 'step'"),
        ([row("train", 1, reward="high")], "reward is 'high', which is no number"),
        ([{"phase": "train", "step": None, "reward": 1.0}], "step is None, which is no number"),
        ([row("train", 1, reward=[1.0])], r"reward is \[1.0\], which is no number"),
        ([row("eval", 0, em=19.0, n=200)], "a rate lies in"),
    ],
)
def test_rows_that_cannot_be_drawn_are_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        draw_panels({"run": rows}, title="t")


def test_more_runs_than_there_are_colours_are_refused() -> None:
    runs = {str(number): [row("eval", 0, em=0.5)] for number in range(MOST_RUNS + 1)}
    with pytest.raises(DataError, match="7 runs: more than 6"):
        draw_panels(runs, title="t")
