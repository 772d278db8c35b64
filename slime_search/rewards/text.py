"""Answer matching after the normalisation of SQuAD's evaluation script (Rajpurkar et al., arXiv 1606.05250)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, blanks collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, gold_answers: Sequence[str]) -> float:
    """1.0 when ``answer`` equals a gold answer after normalisation, else 0.0."""
    return float(normalize_answer(answer) in map(normalize_answer, gold_answers))


def cover_exact_match(text: str, gold_answers: Sequence[str]) -> float:
    """1.0 when ``text`` contains a gold answer as whole words after normalisation, else 0.0."""
    padded = f" {normalize_answer(text)} "
    return float(any(f" {gold} " in padded for gold in map(normalize_answer, gold_answers) if gold))


def f1(answer: str, gold_answers: Sequence[str]) -> float:
    """The best harmonic mean of word precision and recall against any gold answer, in [0, 1]."""
    return max(
        (_f1_of_words(normalize_answer(answer).split(), normalize_answer(g).split()) for g in gold_answers), default=0.0
    )


def _f1_of_words(answer: list[str], gold: list[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    shared = sum((Counter(answer) & Counter(gold)).values())
    return 2 * shared / (len(answer) + len(gold))
