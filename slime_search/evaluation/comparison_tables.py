"""A comparison as tables, for a terminal and for a paper."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from slime_search.evaluation.comparison import Comparison, Difference, Pair, is_right
from slime_search.evaluation.delegation import Delegation
from slime_search.evaluation.formatting import NOTHING, TITLES, change, markdown, shown, table
from slime_search.evaluation.outcome import METRICS, Outcome
from slime_search.evaluation.summary import AVERAGE

_DELEGATION = ("delegated", "EM then", "the other's EM then", "EM else")


def terminal_comparison(comparison: Comparison, show: int) -> RenderableType:
    """Differences, flipped questions (``show`` of each kind with their answers), and delegation."""
    exact_match = table("EM", "questions", "A", "B", "B − A", "95 %")
    for name, one in _rows(comparison):
        style = "bold" if name == AVERAGE else ""
        exact_match.add_row(name, f"{one.questions:,}", *_cells(one, "em"), style=style)
    others = table("on average", "A", "B", "B − A", "95 %")
    for metric in METRICS[1:]:
        others.add_row(TITLES[metric], *_cells(comparison.average, metric))
    parts: list[RenderableType] = [exact_match, "", others, "", Text(_common(comparison))]
    parts += _flips("Right in A, wrong in B", comparison.lost, show)
    parts += _flips("Wrong in A, right in B", comparison.won, show)
    if any(comparison.delegation):
        delegation = table("run", *_DELEGATION)
        for run, told in zip("AB", comparison.delegation, strict=True):
            delegation.add_row(run, *_delegated(told))
        parts += ["", delegation]
    return Group(*parts)


def markdown_comparison(comparison: Comparison, names: tuple[str, str]) -> str:
    """The same without the questions. ``names`` are those of the runs."""
    rows = [[name, f"{one.questions:,}", *_cells(one, "em")] for name, one in _rows(comparison)]
    others = [[TITLES[metric], *_cells(comparison.average, metric)] for metric in METRICS[1:]]
    parts = [
        f"A is `{names[0]}`, B is `{names[1]}`.\n",
        markdown(["EM", "questions", "A", "B", "B − A", "95 %"], rows),
        markdown(["on average", "A", "B", "B − A", "95 %"], others),
        f"{_common(comparison)} Right in A only: {len(comparison.lost):,}; right in B only: {len(comparison.won):,}. "
        "The intervals are of a paired bootstrap over questions.\n",
    ]
    if any(comparison.delegation):
        rows = [[run, *_delegated(told)] for run, told in zip("AB", comparison.delegation, strict=True)]
        parts.append(markdown(["run", *_DELEGATION], rows))
    return "\n".join(parts)


def _common(comparison: Comparison) -> str:
    common = comparison.average.questions
    return f"{common:,} questions in common; {comparison.only_a:,} only in A, {comparison.only_b:,} only in B."


def _flips(title: str, pairs: Sequence[Pair], show: int) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(f"{title}: {len(pairs):,}", style="bold")]
    for pair in pairs[:show]:
        gold = " / ".join(pair.first.gold_answers)
        parts.append(Text(f"  {pair.first.question_id}  {pair.first.question}"))
        parts.append(Text(f"    A {_answer(pair.a)}, B {_answer(pair.b)}, gold {gold}", style="dim"))
    if 0 < show < len(pairs):
        parts.append(Text(f"  … {len(pairs) - show:,} more; --show prints them", style="dim"))
    return parts


def _answer(samples: Sequence[Outcome]) -> str:
    """That of the first sample that is right or wrong as the question is."""
    right = is_right(samples)
    answer = next(one.answer for one in samples if bool(one.em) == right)
    return "no answer" if answer is None else repr(answer)


def _delegated(told: Delegation | None) -> list[str]:
    if told is None:
        return [NOTHING] * len(_DELEGATION)
    return [shown(told.delegated), shown(told.em_delegated), shown(told.em_other), shown(told.em_alone)]


def _cells(one: Difference, metric: str) -> list[str]:
    return [shown(one.a[metric], metric), shown(one.b[metric], metric), *change(one.change[metric], metric)]


def _rows(comparison: Comparison) -> list[tuple[str, Difference]]:
    """One set's average is the set itself."""
    sets = list(comparison.sets.items())
    return [*sets, *([(AVERAGE, comparison.average)] if len(sets) > 1 else [])]
