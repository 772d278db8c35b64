"""Measures coverage: reads a whole corpus in several processes, and asks a retriever."""

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

from slime_search.data.coverage import AnswerFinder, Coverage, Searched, Share, coverage_of, evenly, is_in
from slime_search.data.questions import Question
from slime_search.errors import InvalidQuery
from slime_search.tools.retriever import Retriever
from slime_search.transport.client import PooledSender, ServiceClient, close_sessions
from slime_search.transport.replicas import Replicas

OnPassages = Callable[[int, int], object]
"""Told how many passages are read, and how many there are."""
_PART = 100_000
"""Passages that a process reads at a time; fewer are read in this one."""
_AT_ONCE = 32
_TIMEOUT_S = 60.0
_ATTEMPTS = 3


def measure(
    sets: Mapping[str, Sequence[Question]],
    corpus_path: Path,
    *,
    retriever: "Asked | None" = None,
    on_passages: OnPassages = lambda done, total: None,
    processes: int | None = None,
) -> list[Coverage]:
    """The coverage of each data set.

    Args:
        sets: questions by data set; each with at least one.
        corpus_path: the retriever's corpus.
        retriever: a running one that is asked the questions, or a part of them.
        on_passages: is told how far the corpus is read.
        processes: that read it; None for one a core.

    Raises:
        CorpusError: the corpus can't be read.
        ServiceError: the retriever failed.
    """
    answers = {answer for questions in sets.values() for question in questions for answer in question.answers}
    found = scan(corpus_path, answers, on_passages, processes or len(os.sched_getaffinity(0)))
    measured = [coverage_of(name, questions, found) for name, questions in sets.items()]
    if retriever is None:
        return measured
    return [of_set._replace(searched=retriever.search(sets[of_set.name])) for of_set in measured]


def scan(corpus_path: Path, answers: Iterable[str], on_passages: OnPassages, processes: int) -> set[str]:
    """The normalised answers that stand in some passage. Memory is that of the answers, once a process.

    Raises:
        CorpusError: the corpus can't be read.
    """
    from slime_search.retrieval.corpus import Corpus

    total = len(Corpus.read(corpus_path))
    wanted = sorted(set(answers))
    parts = [(corpus_path, start, min(start + _PART, total)) for start in range(0, total, _PART)]
    found: set[str] = set()
    if len(parts) == 1 or processes == 1:
        finder = AnswerFinder(wanted)
        for part in parts:
            _read(finder, *part)
            on_passages(part[2], total)
        return finder.found
    # Spawned, since a fork takes the locks of other threads along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(parts)), context, initializer=_begin, initargs=(wanted,)) as pool:
        done = 0
        for (_, start, stop), here in zip(parts, pool.map(_read_part, parts), strict=True):
            found |= here
            done += stop - start
            on_passages(done, total)
    return found


class Asked:
    """A running retriever, and how many questions of a data set it is asked.

    Args:
        url: its ``/retrieve``.
        topk: passages a question.
        questions: of a data set at most, of all over it; None for all.
        token: the server's bearer token, if it asks for one.
        proxy: as ``local.proxy`` of a recipe's config.
    """

    def __init__(
        self, url: str, *, topk: int, questions: int | None = None, token: str | None = None, proxy: str | None = None
    ) -> None:
        self._urls = [url]
        self._topk = topk
        self._questions = questions
        self._token = token
        self._proxy = proxy

    def search(self, questions: Sequence[Question]) -> Searched:
        """What the first passages hold; a question that the retriever refuses finds nothing. Raises ServiceError."""
        asked = list(evenly(questions, self._questions or len(questions)))
        return Searched(self._topk, Share(asyncio.run(self._hits(asked)), len(asked)))

    async def _hits(self, questions: Sequence[Question]) -> int:
        sender = PooledSender(concurrency=_AT_ONCE, timeout_s=_TIMEOUT_S, proxy=self._proxy)
        servers = Replicas(ServiceClient("retriever", sender, attempts=_ATTEMPTS), self._urls)
        retriever = Retriever(servers, topk=self._topk, token=self._token)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def is_hit(question: Question) -> bool:
            async with gate:
                try:
                    result = await retriever(question.text)
                except InvalidQuery:
                    return False
            return is_in(question, (f"{passage.title}\n{passage.text}" for passage in result.passages))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(is_hit(question)) for question in questions]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await close_sessions()
        return sum(task.result() for task in tasks)


@cache
def _finder() -> list[AnswerFinder]:
    """That of this process, once it has begun."""
    return []


def _begin(answers: Sequence[str]) -> None:
    _finder().append(AnswerFinder(answers))


def _read_part(part: tuple[Path, int, int]) -> set[str]:
    """What this process has found so far."""
    finder = _finder()[0]
    before = set(finder.found)
    _read(finder, *part)
    return finder.found - before


def _read(finder: AnswerFinder, corpus_path: Path, start: int, stop: int) -> None:
    from slime_search.retrieval.corpus import Corpus

    for text in Corpus.read(corpus_path).texts(range(start, stop)):
        if finder.is_done:
            return
        finder.look_in(text)
