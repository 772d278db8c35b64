"""Gold answers in the shapes in which data sets carry them."""

import json
from collections.abc import Mapping
from typing import Any

from slime_search.errors import DataError

_KEYS = ("ground_truth", "target", "golden_answers", "answers", "answer")


def gold_answers(label: Any) -> list[str]:
    """The gold answers of a sample's label.

    Takes Search-R1's ``{"ground_truth": {"target": [...]}}``, any of its inner parts, a list, a plain string, or any of
    these as a JSON string.

    Raises:
        DataError: no gold answer can be found in the label.
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
        return next((_answers(label[key]) for key in _KEYS if label.get(key) is not None), [])
    if isinstance(label, str):
        parsed = _container(label)
        return [label] if parsed is None and label.strip() else _answers(parsed) if parsed is not None else []
    if hasattr(label, "tolist"):
        label = label.tolist()
    if isinstance(label, list | tuple | set):
        return [answer for item in label for answer in _answers(item)]
    return [] if label is None else [str(label)]


def _container(text: str) -> dict[str, Any] | list[Any] | None:
    """The dict or list that ``text`` spells in JSON; None when it is an ordinary string."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict | list) else None
