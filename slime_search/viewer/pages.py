"""The pages, rendered: what each shows of a library."""

import base64
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from slime_search.errors import DataError
from slime_search.hooks.facts import RolloutFacts
from slime_search.viewer.library import Library, share_of
from slime_search.viewer.rendering import environment
from slime_search.viewer.selection import Selection, select
from slime_search.viewer.views import change, view

ROWS = 50
"""Rows of one page of a list."""
TOKENS_SHOWN = 50_000
CHARACTERS_SHOWN = 20_000
CHANGES = ("", "improved", "worse", "same", "unknown")
_DRAWING = threading.Lock()
"""matplotlib's settings are the process's, and each request has its own thread."""


@dataclass(frozen=True)
class Row:
    number: int
    facts: RolloutFacts
    checkpoint: str


@dataclass(frozen=True)
class Part:
    """One page of a list: ``start`` counts from 1."""

    page: int
    pages: int
    start: int
    total: int


class Pages:
    """Each method is one page, as HTML."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._templates = environment("slime_search.viewer", characters_shown=CHARACTERS_SHOWN)
        self._templates.globals |= {
            "library": library,
            "several_checkpoints": len(library.checkpoints) > 1,
            "facets": {name: library.values(name) for name in ("ending", "recipe", "source")},
        }
        # Walking through the rollouts of one selection asks for it at each step.
        self._select = lru_cache(maxsize=4)(lambda selection: select(library, selection))

    def listing(self, selection: Selection, page: int) -> str:
        numbers = self._select(selection)
        shown, part = _part(numbers, page)
        share = share_of(self._library.entries[number].facts.right for number in numbers)
        return self._render(
            "list.html.j2", selection=selection, rows=[self._row(n) for n in shown], part=part, share=share
        )

    def rollout(self, number: int, selection: Selection) -> str:
        """Raises DataError: there is no such rollout, or its line is bad."""
        rollout = self._library.read(self._known(number))
        numbers = self._select(selection)
        index = numbers.index(number) if number in numbers else None
        others = [n for n in self._library.numbers_of[self._library.entries[number].facts.question] if n != number]
        return self._render(
            "rollout.html.j2",
            selection=selection,
            number=number,
            row=self._row(number),
            view=view(rollout, tokens_shown=TOKENS_SHOWN),
            index=index,
            total=len(numbers),
            page=index // ROWS + 1 if index is not None else 1,
            before=numbers[index - 1] if index else None,
            after=numbers[index + 1] if index is not None and index + 1 < len(numbers) else None,
            others=[self._row(n) for n in others[:ROWS]],
            hidden=max(0, len(others) - ROWS),
        )

    def comparison(self, left: str, right: str, change: str, page: int) -> str:
        """Two checkpoints on all questions. Where they are not named, they are the first and the last.

        Raises:
            DataError: there is no such checkpoint or change.
        """
        known = self._library.checkpoints
        left, right = left or known[0], right or known[-1]
        for name, value, values in (("left", left, known), ("right", right, known), ("change", change, CHANGES)):
            if value not in values:
                raise DataError(f"{name}: {value!r} is not one of {', '.join(filter(None, values))}")
        pairs = compare(self._library, left, right)
        scored = [pair for pair in pairs if pair.change != "unknown"]
        wanted = [pair for pair in pairs if not change or pair.change == change]
        shown, part = _part(wanted, page)
        return self._render(
            "compare.html.j2",
            left=left,
            right=right,
            change=change,
            counts={name: sum(not name or pair.change == name for pair in pairs) for name in CHANGES},
            shares=[share_of(pair.left.right for pair in scored), share_of(pair.right.right for pair in scored)],
            pairs=shown,
            part=part,
            back=_back(change, part.page),
        )

    def pair(self, left: int, right: int, change: str, page: int) -> str:
        """Two rollouts side by side, come from a page of the comparison.

        Raises:
            DataError: one is not there, or its line is bad.
        """
        rows = [self._row(self._known(number)) for number in (left, right)]
        views = [view(self._library.read(number), tokens_shown=TOKENS_SHOWN) for number in (left, right)]
        return self._render("pair.html.j2", rows=rows, views=views, back=_back(change, page))

    def curves(self) -> str:
        """Raises DataError: the folder has no metrics, or none that can be drawn."""
        if self._library.metrics is None:
            raise DataError("metrics: there is no metrics.jsonl beside the rollouts")
        light, dark = curves_uris(self._library.metrics)
        return self._render("curves.html.j2", light=light, dark=dark)

    def error(self, message: str) -> str:
        return self._render("error.html.j2", message=message)

    def _render(self, name: str, **context: Any) -> str:
        return self._templates.get_template(name).render(**context)

    def _row(self, number: int) -> Row:
        entry = self._library.entries[number]
        return Row(number, entry.facts, self._library.checkpoint_of(entry))

    def _known(self, number: int) -> int:
        if not 0 <= number < len(self._library.entries):
            raise DataError(f"rollout: there is no {number}; they go from 0 to {len(self._library.entries) - 1}")
        return number


def _back(change: str, page: int) -> str:
    """What of an address leads to a page of the comparison again."""
    return urlencode({**({"change": change} if change else {}), **({"page": page} if page > 1 else {})})


def _part(items: Sequence[Any], page: int) -> tuple[Sequence[Any], Part]:
    pages = max(1, -(-len(items) // ROWS))
    page = min(max(page, 1), pages)
    start = (page - 1) * ROWS
    return items[start : start + ROWS], Part(page, pages, start + 1, len(items))


@dataclass(frozen=True)
class Side:
    """One checkpoint's attempts at a question. ``right`` is the share of them that are, None if unknown."""

    numbers: list[int]
    right: float | None


@dataclass(frozen=True)
class Pair:
    question: str
    left: Side
    right: Side

    @property
    def change(self) -> str:
        """``unknown`` where one side has no attempt that was scored, as where a service failed them all."""
        if self.left.right is None or self.right.right is None:
            return "unknown"
        return change(self.left.right, self.right.right)


def compare(library: Library, left: str, right: str) -> list[Pair]:
    """The questions of both checkpoints, in the order of the files."""
    pairs = []
    for question, numbers in library.numbers_of.items():
        sides = [_side(library, numbers, checkpoint) for checkpoint in (left, right)]
        if all(side.numbers for side in sides):
            pairs.append(Pair(question, *sides))
    return pairs


def _side(library: Library, numbers: list[int], checkpoint: str) -> Side:
    own = [number for number in numbers if library.checkpoint_of(library.entries[number]) == checkpoint]
    return Side(own, share_of(library.entries[number].facts.right for number in own))


def curves_uris(metrics: Path) -> tuple[str, str]:
    """Two images as data URIs, for a light page and for a dark one.

    Raises:
        DataError: a row is not JSON, nothing can be drawn, or matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise DataError("curves: matplotlib not installed. Run: pip install 'slime-search[curves]'")
    from slime_search.viewer.panels import draw_panels
    from slime_search.viewer.run_metrics import read_metrics

    runs = {metrics.parent.resolve().name: read_metrics(metrics)}
    with _DRAWING:
        light, dark = (draw_panels(runs, title="Over the steps", kind="svg", dark=dark) for dark in (False, True))
    return _uri(light), _uri(dark)


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
