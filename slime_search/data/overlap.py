"""Questions that occur more than once: in one data set, in two, or in training and test."""

import unicodedata
from collections.abc import Collection, Iterable
from typing import NamedTuple

from slime_search.data.questions import Question
from slime_search.rewards.text import normalize_answer

_QUOTES = str.maketrans("‘’“”–—", "''\"\"--")


def key_of(question: str) -> str:
    """What two questions share that differ in case, punctuation, articles, blanks or Unicode spelling alone."""
    text = unicodedata.normalize("NFKC", question).translate(_QUOTES).casefold()
    # A question that is all punctuation and articles is only like itself.
    return normalize_answer(text) or text.strip()


class Sifted(NamedTuple):
    kept: list[Question]
    duplicates: int
    """Questions that came before."""
    leaked: int
    """Questions that are in a test set."""


def sift(questions: Iterable[Question], seen: set[str], secret: Collection[str]) -> Sifted:
    """Leaves out questions whose key is in ``secret`` or came before; adds the keys of the others to ``seen``."""
    kept: list[Question] = []
    duplicates = leaked = 0
    for question in questions:
        key = key_of(question.text)
        if key in secret:
            leaked += 1
        elif key in seen:
            duplicates += 1
        else:
            seen.add(key)
            kept.append(question)
    return Sifted(kept, duplicates, leaked)
