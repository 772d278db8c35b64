"""The page of metrics has every metric that the code logs or exports, and no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from slime_search.evaluation.scores import METRICS
from slime_search.hooks import metrics as hooks
from slime_search.reference.metrics import Family, families, reference

ROOT = Path(__file__).parents[2]
BY_PLACE = {family.place: family for family in families()}
LOGGING = [place for place in BY_PLACE if place.startswith("slime_search/hooks/")]


def function(place: str) -> ast.FunctionDef:
    path, _, name = place.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    return found


def logged(node: ast.FunctionDef) -> Iterator[str]:
    """The keys of the dicts that a function makes: written out, or set one by one."""
    for part in ast.walk(node):
        if isinstance(part, ast.Dict):
            yield from (key.value for key in part.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
        if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store) and isinstance(part.slice, ast.Constant):
            yield str(part.slice.value)


def test_the_page_is_current() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    assert page == reference(), "run: python -m slime_search.reference.metrics > docs/metrics.md"


@pytest.mark.parametrize("place", LOGGING)
def test_every_metric_that_is_logged_is_on_the_page(place: str) -> None:
    found = set(logged(function(place)))
    if place.endswith("::rollout_metrics"):
        found |= set(hooks._SCORES)
    if place.endswith("::red_loss"):
        # slime's own name, under which its logs keep the whole loss.
        found -= {"loss"}
    assert found == {name for name in BY_PLACE[place].metrics if not name.startswith("page/")}


def test_every_function_that_makes_metrics_is_on_the_page() -> None:
    tree = ast.parse((ROOT / "slime_search/hooks/metrics.py").read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.endswith("_metrics")}
    assert {f"slime_search/hooks/metrics.py::{name}" for name in names} == {p for p in LOGGING if "/red/" not in p}


def test_what_an_evaluation_measures_is_on_the_page() -> None:
    assert tuple(BY_PLACE["slime_search/evaluation/scores.py::METRICS"].metrics) == METRICS


@pytest.mark.parametrize("family", list(families()), ids=lambda family: family.title)
def test_every_metric_has_a_unit_and_a_meaning(family: Family) -> None:
    assert family.metrics
    assert all(metric.unit and metric.meaning for metric in family.metrics.values())
