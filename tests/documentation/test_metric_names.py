"""Every metric that a document or an example names is one that is logged: ours, or one of slime's with its source."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from slime_search.reference.metrics import SLIMES, families

ROOT = Path(__file__).parents[2]
READ = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "examples/**/*.md", "examples/**/*.sh", "examples/**/*.py")
    for path in ROOT.glob(pattern)
)
FOLDERS = ("rollout", "train", "eval", "perf", "search", "distill", "passrate", "multi_turn")
NAME = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w<>@/… -]*[\w>…/]")
SET = re.compile(r"^eval/(?:<data set>|NAME)")
NO_METRICS = {"search/google", "train/test"}
"""Folders of files."""


def quoted(text: str) -> Iterator[str]:
    """What stands between backticks, or in a script."""
    yield from re.findall(r"`([^`\n]+)`", text)


def names() -> Iterator[tuple[str, Path]]:
    for path in READ:
        text = path.read_text()
        for piece in quoted(text) if path.suffix == ".md" else [text]:
            yield from ((found, path) for found in NAME.findall(piece) if found not in NO_METRICS)


KNOWN = {f"{family.prefix}{name}" for family in families() for name in family.metrics} | set(SLIMES)


def is_logged(name: str) -> bool:
    if name in KNOWN:
        return True
    if SET.match(name):
        rest = SET.sub("", name)
        return rest in ("", "/", "/…") or f"eval/<data set>{rest}" in KNOWN or is_logged(rest.removeprefix("/"))
    if name.endswith(("/", "/…")):
        return any(known.startswith(name.rstrip("/…") + "/") for known in KNOWN)
    return any(known.startswith("search/page/<") and name.startswith("search/page/") for known in KNOWN)


@pytest.mark.parametrize(("name", "path"), sorted(set(names()), key=str), ids=str)
def test_a_metric_that_is_named_is_logged(name: str, path: Path) -> None:
    assert is_logged(name), f"{path.relative_to(ROOT)} names {name}"


def test_names_are_found() -> None:
    found = {name for name, _ in names()}
    assert {"search/em", "rollout/opd_reverse_kl", "train/red_weight", "rollout/red/…", "eval/<data set>"} <= found


@pytest.mark.parametrize("name", ["train/opd_reverse_kl", "search/no_such", "eval/NAME/search/no_such", "rollout/no/…"])
def test_one_that_is_none_is_noticed(name: str) -> None:
    assert NAME.fullmatch(name) and not is_logged(name)


@pytest.mark.parametrize("name", ["eval/NAME/…", "eval/NAME/search/em", "search/…", "search/page/read", "train/"])
def test_ways_to_name_one(name: str) -> None:
    assert is_logged(name)
