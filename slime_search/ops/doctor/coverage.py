"""Coverage, which is looked at on demand: what the corpus, and the retriever, let the policy answer at most."""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence

from slime_search.data.coverage import Coverage, described, sets_of
from slime_search.data.questions import Question
from slime_search.errors import DataError, ServiceError
from slime_search.ops.coverage import Asked, measure
from slime_search.ops.doctor.results import Result, Waits, failed, passed, skipped, warned
from slime_search.ops.doctor.setup import Setup
from slime_search.retrieval.errors import SetupError

ENOUGH = 0.9
"""The share of questions with a gold answer in some passage, below which a corpus is warned of."""


def coverage(setup: Setup) -> Iterator[Result]:
    """With --coverage: nine tenths of each data set's questions have a gold answer in some passage of the corpus."""
    if not setup.measures_coverage:
        return
    if setup.config.search_backend != "local":
        yield skipped("coverage", f"search_backend is {setup.config.search_backend!r}, which has no corpus")
        return
    if importlib.util.find_spec("numpy") is None:
        raise Waits("pip install 'slime-search[bm25]', or [retrieval], has to be done first")
    corpus = setup.launch.corpus_path
    if corpus is None or not corpus.exists():
        raise Waits(f"{corpus or 'CORPUS_PATH'} has to exist on this machine first")
    sets = _sets(setup)
    if not sets:
        raise Waits("the questions have to be readable first")

    def tell(done: int, total: int) -> None:
        setup.tell(f"the corpus for gold answers, {done:,} of {total:,} passages")

    retriever = _retriever(setup)
    try:
        found = measure(sets, corpus, retriever=retriever, on_passages=tell)
    except SetupError as error:
        yield failed("coverage", error.found, error.fix)
        return
    except ServiceError as error:
        yield failed("coverage", str(error), "look at the topic Search above")
        return
    for of_set in found:
        yield _told(of_set)
    if retriever is None:
        yield skipped("top k", "no retriever is ready; start it, and look again for what it finds")


def _told(of_set: Coverage) -> Result:
    name, finding = f"coverage {of_set.name}", described(of_set)
    if of_set.corpus.value >= ENOUGH:
        return passed(name, finding)
    return warned(
        name, finding, "take a corpus that has the answers, or leave questions without one out of the training"
    )


def _sets(setup: Setup) -> Mapping[str, Sequence[Question]]:
    """By use and data set, of the files that can be read; the topic Data tells of the others."""
    sets: dict[str, Sequence[Question]] = {}
    for use, paths in (("train", [setup.train_data]), ("test", setup.eval_data)):
        for path in paths:
            try:
                sets |= sets_of(path, use)
            except (DataError, ImportError):
                continue
    return sets


def _retriever(setup: Setup) -> Asked | None:
    ready = next((url for url in setup.search_urls if setup.readiness[url].ready), None)
    if ready is None:
        return None
    config = setup.config
    return Asked(
        ready,
        topk=config.topk,
        questions=setup.coverage_questions,
        token=setup.token,
        proxy=config.local.proxy,
    )


CHECKS = (coverage,)
