"""Which questions have a gold answer in some text: what an agent that says what it reads can get right at most."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from slime_search.data.questions import Question, read_questions
from slime_search.rewards.text import cover_exact_match, normalize_answer

_BY_REASONING = frozenset({"yes", "no"})
_EXAMPLES = 3
_SHOWN_CHARS = 80
_Z = 1.959964
"""Of a normal distribution, 95 % lies within so many standard deviations."""


class AnswerFinder:
    """Looks for answers in one text after another, as whole words after exact match's normalisation.

    ``found`` are the normalised answers that stood in some text. They are no longer looked for, so that a text costs
    its normalisation, and little more once the frequent answers are found.
    """

    def __init__(self, answers: Iterable[str]) -> None:
        self.found: set[str] = set()
        self._words: set[str] = set()
        self._phrases: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        pairs_of = {answer: list(pairwise(answer.split())) for answer in set(map(normalize_answer, answers)) - {""}}
        shared = Counter(pair for pairs in pairs_of.values() for pair in pairs)
        for answer, pairs in pairs_of.items():
            if pairs:
                # By "of salamis", and not by "battle of", which stands in many texts and answers.
                self._phrases[min(pairs, key=lambda pair: (shared[pair], pair))].append(answer)
            else:
                self._words.add(answer)
        self._pairs = set(self._phrases)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to look for."""
        return not self._words and not self._pairs

    def look_in(self, text: str) -> None:
        """Adds what stands in ``text`` to ``found``."""
        normalized = normalize_answer(text)
        words = normalized.split(" ")
        if here := self._words.intersection(words):
            self._words -= here
            self.found |= here
        if not (known := self._pairs.intersection(pairwise(words))):
            return
        padded = f" {normalized} "
        for pair in known:
            left = []
            for answer in self._phrases[pair]:
                if f" {answer} " in padded:
                    self.found.add(answer)
                else:
                    left.append(answer)
            self._phrases[pair] = left
            if not left:
                self._pairs.discard(pair)


class Share(NamedTuple):
    """``hits`` of ``total``, which is above 0."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of Wilson's 95 % score interval, which holds near 0 and 1 too (JASA 22, 1927)."""
        middle = (self.hits + _Z**2 / 2) / (self.total + _Z**2)
        spread = math.sqrt(self.value * (1 - self.value) / self.total + _Z**2 / (4 * self.total**2))
        half = _Z * spread / (1 + _Z**2 / self.total)
        # Rounding must not put the share itself outside.
        return min(self.value, max(0.0, middle - half)), max(self.value, min(1.0, middle + half))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%})"


class Coverage(NamedTuple):
    """Of one data set."""

    name: str
    questions: int
    by_reasoning: int
    """Questions whose gold answers are yes or no, which no passage has to say; they count as covered."""
    corpus: Share
    """Questions with a gold answer in some passage."""
    missing: tuple[Question, ...]
    """Some of the others."""
    searched: "Searched | None" = None

    @property
    def most(self) -> str:
        """What follows for exact match, in a sentence."""
        low, high = self.corpus.interval
        return (
            f"an agent that answers with what its passages say reaches an EM of {self.corpus.value:.3f} at most "
            f"({low:.3f} to {high:.3f})"
        )


class Searched(NamedTuple):
    """What the retriever finds for the questions as they stand."""

    topk: int
    hits: Share
    """Questions with a gold answer in the first ``topk`` passages."""


def sets_of(path: Path, use: str) -> Mapping[str, Sequence[Question]]:
    """The questions of a file by data set, which each row says or else the file's name; ``use`` goes before it.

    Raises:
        DataError: the file can't be read.
    """
    sets: defaultdict[str, list[Question]] = defaultdict(list)
    for question in read_questions(path):
        name = question.source or path.stem
        sets[name if name == use else f"{use} {name}"].append(question)
    return sets


def needs_no_passage(question: Question) -> bool:
    """Whether it is answered by yes or no."""
    return bool(question.answers) and _BY_REASONING.issuperset(map(normalize_answer, question.answers))


def is_covered(question: Question, found: set[str]) -> bool:
    """Whether one of its answers is among the normalised ones that were ``found``, or it needs none."""
    return needs_no_passage(question) or not found.isdisjoint(map(normalize_answer, question.answers))


def is_in(question: Question, texts: Iterable[str]) -> bool:
    """Whether one of its answers stands in one of ``texts``, or it needs none."""
    return needs_no_passage(question) or any(cover_exact_match(text, question.answers) for text in texts)


def coverage_of(name: str, questions: Sequence[Question], found: set[str]) -> Coverage:
    """Of at least one question."""
    missing = [question for question in questions if not is_covered(question, found)]
    return Coverage(
        name,
        len(questions),
        sum(map(needs_no_passage, questions)),
        Share(len(questions) - len(missing), len(questions)),
        tuple(evenly(missing, _EXAMPLES)),
    )


def evenly(questions: Sequence[Question], how_many: int) -> Iterator[Question]:
    """Of all over them, ``how_many`` at most."""
    if len(questions) <= how_many:
        return iter(questions)
    return (questions[number * len(questions) // how_many] for number in range(how_many))


def described(of_set: Coverage) -> str:
    """Its numbers, with Wilson's 95 % intervals, and questions without a gold answer."""
    corpus = of_set.corpus
    parts = [f"{corpus.hits:,} of {corpus.total:,} questions have a gold answer in some passage, {corpus}"]
    if of_set.by_reasoning:
        parts[0] += f", {of_set.by_reasoning:,} of them answered by yes or no"
    if searched := of_set.searched:
        asked = "" if searched.hits.total == of_set.questions else f" of {searched.hits.total:,} asked"
        parts.append(f"{searched.hits}{asked} in the first {searched.topk} passages for the question itself")
    parts.append(of_set.most)
    if of_set.missing:
        parts.append("without one, for example: " + "; ".join(map(_shown, of_set.missing)))
    return ". ".join(part[:1].upper() + part[1:] for part in parts)


def _shown(question: Question) -> str:
    answer = question.answers[0] if question.answers else ""
    return f"{question.text[:_SHOWN_CHARS]!r} ({answer[:_SHOWN_CHARS]!r})"
