"""Corpus and index of the retrieval server: whether they belong together, by their headers."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from slime_search.doctor.corpus_rows import count_rows
from slime_search.doctor.index_facts import encoder_dimension, index_facts
from slime_search.doctor.results import Result, Waits, failed, passed, skipped, warned
from slime_search.doctor.setup import Setup

_ROUGHLY = 0.2
"""How far an estimate of the passages may be from their number."""


def corpus(setup: Setup) -> Iterator[Result]:
    """The corpus is there, and its first rows are passages."""
    if why := _why_not(setup):
        yield skipped("corpus", why)
        return
    from slime_search.retrieval.errors import SetupError

    path = _corpus_path(setup)
    try:
        rows = count_rows(path)
    except SetupError as error:
        yield failed("corpus", *_split(error))
        return
    yield passed("corpus", f"{path}: {rows}")


def index(setup: Setup) -> Iterator[Result]:
    """The index holds a vector for every passage, of the length that the encoder makes."""
    if not setup.launch.needs_index:
        yield skipped("index", f"RETRIEVER_NAME is {setup.launch.retriever_name}, which needs none")
        return
    if why := _why_not(setup):
        yield skipped("index", why)
        return
    from slime_search.retrieval.collection import RetrieverSettings, check_fit
    from slime_search.retrieval.errors import SetupError

    path, model = setup.launch.index_path, setup.launch.retriever_model
    assert path is not None
    made = encoder_dimension(model)
    settings = RetrieverSettings(corpus_path=_corpus_path(setup), index_path=path, model=model)
    try:
        facts, rows = index_facts(path), count_rows(settings.corpus_path)
        near = not rows.exact and abs(facts.vectors - rows.total) <= _ROUGHLY * rows.total
        check_fit(
            settings,
            vectors=facts.vectors,
            rows=facts.vectors if near else rows.total,
            dimension=facts.dimension,
            made=made or facts.dimension,
        )
    except SetupError as error:
        yield failed("index", *_split(error))
        return
    fits = f"{rows} (the server counts them)" if near else "as many passages"
    yield passed("index", f"{path}: {facts.kind}, {facts.vectors:,} vectors of {facts.dimension} numbers; {fits}")
    if made is None:
        told = f"{model} is no folder and not in the Hub's cache; the server's first start downloads it"
        yield warned("encoder", told, f"hf download {model}, where this machine has no internet later")
    else:
        yield passed("encoder", f"{model} makes vectors of {made} numbers")


def _why_not(setup: Setup) -> str | None:
    """Why corpus and index are not looked at. Raises Waits where something else is missing that is told already."""
    if setup.config.search_backend != "local":
        return f"search_backend is {setup.config.search_backend!r}"
    given = setup.launch.model_fields_set & {"corpus_path", "index_path"}
    if not setup.starts_retriever and not given:
        return "the retrieval server has them"
    if importlib.util.find_spec("bm25s") is None:
        raise Waits("pip install 'slime-search[bm25]', or [retrieval], has to be done first")
    paths = [setup.launch.corpus_path] + ([setup.launch.index_path] if setup.launch.needs_index else [])
    missing = [path for path in paths if path is None or not path.exists()]
    if missing and setup.starts_retriever:
        raise Waits(f"{missing[0]} has to exist first")
    return f"{missing[0]} is not on this machine; the retrieval server has it" if missing else None


def _corpus_path(setup: Setup) -> Path:
    assert setup.launch.corpus_path is not None
    return setup.launch.corpus_path


def _split(error: Exception) -> tuple[str, str]:
    """What was found, and the fix."""
    told, _, fix = str(error).rpartition("; ")
    return (told, fix) if told else (fix, "name another file with CORPUS_PATH and INDEX_PATH")


CHECKS = (corpus, index)
