"""Gold answers in the shapes in which data sets carry them."""

import ast
import datetime
import io
import json
import re
import tokenize
from collections.abc import Mapping
from typing import Any

from slime_search.errors import DataError

_KEYS = ("ground_truth", "target", "golden_answers", "answers", "answer")
_OPENING = r"\s*(?:array\s*\()?\s*[\[({]\s*"
_TEXT = r"""(?:[bu]|np\.str_\()?['"]"""
_PRINTED = re.compile(rf"""{_OPENING}(?:(?:nan|None|NaT),\s*)*{_TEXT}""")
"""How the print of a container of texts begins, of Python's, numpy's or pandas'."""
_NUMPY_TEXT = re.compile(r"""\bnp\.str_\(('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\)""")
_MISSING = frozenset({"nan", "NaT", "NA"})
"""Names that prints hold in the place of a value."""
_GOES_ON_AS_PRINT = re.compile(rf"""{_OPENING}(['"]).*?\1\s*(?:[\])}}'"\[({{]|[,:]\s*['"\[({{])""", re.DOTALL)
"""A print in which a text is whole: it ends before a bracket or another text. The print may be cut off later."""
_LARGEST_EXACT = 2**53
"""Beyond it a float stands for several integers."""


def gold_answers(label: Any) -> list[str]:
    """The gold answers of a sample's label.

    Takes Search-R1's ``{"ground_truth": {"target": [...]}}``, any of its inner parts, a list, a plain string, or any of
    these as a JSON string or as Python prints them. A number that a table made a float of, such as 1990.0, is read as
    1990, and missing values are passed over.

    Raises:
        DataError: no gold answer can be found in the label, or what a program made of it can't be undone.
    """
    answers = _answers(label)
    if not answers:
        raise DataError(
            f"label: no gold answer in {str(label)[:200]!r}. Give a string, a list of strings, or a dict with one of "
            f"{', '.join(_KEYS)}; slime reads it from the column that --label-key names."
        )
    return answers


def _answers(label: Any) -> list[str]:
    if isinstance(label, Mapping):
        return next((_answers(label[key]) for key in _KEYS if not _is_missing(label.get(key))), [])
    if isinstance(label, str):
        printed = _container(label)
        if printed is None:
            return [label] if label.strip() else []
        return _answers(printed)
    if hasattr(label, "tolist"):
        label = label.tolist()
    if isinstance(label, list | tuple | set | frozenset):
        return [answer for item in label for answer in _answers(item)]
    return [] if _is_missing(label) else [_text(label)]


def _is_missing(value: Any) -> bool:
    """None, and what pandas has in its place: NaN, NA and NaT."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _text(value: Any) -> str:
    """A single answer that is no text.

    Raises:
        DataError: it is a date, whose text as it was written is lost.
    """
    if isinstance(value, datetime.date):
        raise DataError(
            f"label: {str(value)!r} is a date that a program made of a text, and how it was written is lost. Store the "
            "column as text"
        )
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT:
        return str(int(value))
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _container(text: str) -> Any:
    """The dict, list, tuple or set that ``text`` spells in JSON or in Python; None when it is an ordinary string.

    Raises:
        DataError: it is the print of a container, and its parts can't be told apart.
    """
    if text.lstrip()[:1] not in ("{", "[", "(") and not _PRINTED.match(text):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _python_container(text)
    return value if isinstance(value, dict | list | tuple | set) else None


class _WithoutMissing(ast.NodeTransformer):
    """Puts None in the place of ``nan`` and its like."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(None) if node.id in _MISSING else node


def _python_container(text: str) -> Any:
    """A container of texts as Python's ``repr`` writes it; None where ``text`` is none, nor what is left of one.

    ['Paris', 'Rome']       the list
    [np.str_('Paris'), nan] the list, as numpy 2 and pandas print it, without what is missing
    ['Paris' 'Rome']        refused: numpy's print, which may have lost where a text ends
    ['Paris', 'Ro           refused: cut off
    ['                      None: no text in it is whole, so it is an answer
    ('Heroes' by Bowie)     None
    """
    if not _PRINTED.match(text):
        return None
    plain = _NUMPY_TEXT.sub(r"\1", text.strip())
    try:
        tree = _WithoutMissing().visit(ast.parse(plain, mode="eval"))
        value = ast.literal_eval(tree)
        tokens = tokenize.generate_tokens(io.StringIO(plain).readline)
        written = sum(token.type == tokenize.STRING for token in tokens)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError):
        value, written = None, 0
    else:
        # numpy prints no commas, and Python takes two texts side by side for one.
        read = sum(isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) for node in ast.walk(tree))
        value = value if written == read else None
    if value is None:
        if not _GOES_ON_AS_PRINT.match(text):
            return None
        raise DataError(
            f"label: {text[:200]!r} looks like the print of a list or an array, and its answers can't be told apart. "
            "Store the answers as a list, or as JSON"
        )
    # A text in brackets that is no container: ('Paris').
    return [value] if isinstance(value, str) else value
