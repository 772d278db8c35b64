import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.errors import DataError
from slime_search.viewer.curve import NARROW, curve_svg, draw_curve, percent, wilson_interval
from tests.viewer.sample_run import sample_run


def test_the_png_is_1600_pixels_wide(tmp_path: Path) -> None:
    draw_curve(sample_run().metrics, tmp_path / "curve.png", title="A run")
    data = (tmp_path / "curve.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">I", data[16:20]) == (1600,)


def test_the_labels_state_what_was_measured() -> None:
    svg = curve_svg(sample_run().metrics, title="A run").decode()
    for label in ("held-out exact match, 95% interval, n = 200", "training reward, mean of 11 steps", "A run"):
        assert f"<!-- {label} -->" in svg


def test_equal_metrics_give_equal_bytes() -> None:
    metrics = sample_run().metrics
    wide = curve_svg(metrics, title="A run")
    assert curve_svg(metrics, title="A run") == wide
    assert curve_svg(metrics, title="A run", size=NARROW) != wide


@pytest.mark.parametrize("phase", ["train", "eval"])
def test_one_phase_alone_is_enough(phase: str) -> None:
    rows = [row for row in sample_run().metrics if row["phase"] == phase]
    svg = curve_svg(rows, title="A run").decode()
    assert ("training reward" in svg) == (phase == "train")
    assert ("held-out exact match" in svg) == (phase == "eval")


def test_rows_of_other_phases_and_values_that_are_not_finite_are_not_drawn() -> None:
    rows = sample_run().metrics
    others: list[dict[str, float | int | str]] = [
        {"phase": "train", "step": 40, "reward": math.nan},
        {"phase": "cold_start", "step": 9_000},
    ]
    assert curve_svg([*rows, *others], title="A run") == curve_svg(rows, title="A run")


def test_rows_without_searches_leave_that_panel_empty(tmp_path: Path) -> None:
    rows: list[dict[str, float | int | str]] = [{"phase": "eval", "step": 0, "em": 0.5}]
    draw_curve(rows, tmp_path / "curve.svg", title="A run")
    svg = (tmp_path / "curve.svg").read_text()
    assert "<!-- held-out exact match -->" in svg
    assert "<!-- searches per question -->" in svg


def test_a_title_is_text_and_not_a_formula() -> None:
    assert b"5 $ and $ \\frac" in curve_svg(sample_run().metrics, title="5 $ and $ \\frac")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "none of 0 rows"),
        ([{"phase": "cold_start", "step": 1, "loss": 1.0}], "none of 1 rows"),
        ([{"phase": "eval", "step": 0}], "phase 'eval' lacks the key 'em'"),
        ([{"phase": "train", "reward": 0.5}], "phase 'train' lacks the key 'step'"),
        ([{"phase": "eval", "step": 0, "em": 19.0, "n": 200}], "a rate lies in"),
    ],
)
def test_rows_that_cannot_be_drawn_are_refused_by_name(
    rows: list[dict[str, float | int | str]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        draw_curve(rows, tmp_path / "curve.png", title="A run")


@pytest.mark.parametrize(("hits", "low", "high"), [(0, 0.0, 0.2775), (5, 0.2366, 0.7634), (10, 0.7225, 1.0)])
def test_wilson_interval_of_ten_trials(hits: int, low: float, high: float) -> None:
    assert wilson_interval(hits / 10, 10) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_rate(trials: tuple[int, int]) -> None:
    hits, n = trials
    low, high = wilson_interval(hits / n, n)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1


@pytest.mark.parametrize(("rate", "text"), [(0.0, "0%"), (0.235, "23.5%"), (0.61, "61%"), (1.0, "100%")])
def test_percent(rate: float, text: str) -> None:
    assert percent(rate) == text
