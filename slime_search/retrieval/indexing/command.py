"""Builds a store from what a command line names: a corpus and an encoder, or an index that holds the vectors."""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.indexing.inputs import stamp_of
from slime_search.retrieval.vectors.manifest import Kind, Manifest, Source

if TYPE_CHECKING:
    from slime_search.retrieval.encoders.encoder import Encoder


class Asked(NamedTuple):
    """Queries of somebody's own for the self-test."""

    texts: Sequence[str]
    name: str


def build_store(
    output: Path,
    *,
    corpus_path: Path | None,
    name: str,
    model: str | None,
    from_index: Path | None,
    kind: Kind,
    shards: int,
    encoding: dict[str, str | int],
    console: Console,
    asked: Asked | None = None,
) -> Manifest:
    """Builds the store in ``output``, or carries on with it, and shows how far it is. Raises SetupError."""
    _check_options(corpus_path, model, from_index, asked)
    _need("torch", "faiss", *(() if model is None else ("sentence_transformers",)))
    from slime_search.retrieval.indexing.building import QUERIES, build
    from slime_search.retrieval.indexing.inputs import EncodedCorpus, FlatIndexFile, asked_of

    @cache
    def encoder() -> "Encoder":
        from slime_search.retrieval.encoders.loading import load_encoder

        assert model is not None
        return load_encoder(
            model,
            family=name,
            device=str(encoding["device"]),
            precision=str(encoding["precision"]),
            batch_size=int(encoding["batch_size"]),
        )

    ask = None if asked is None else lambda: asked_of(encoder(), asked.texts, QUERIES, asked.name)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        if from_index is not None:
            flat = FlatIndexFile(from_index)
            source = Source(kind=kind, shards=shards, count=flat.count, from_index=stamp_of(from_index))
            return build(output, source, lambda: flat, progress, ask)
        from slime_search.retrieval.corpus import Corpus

        assert corpus_path is not None
        reading = progress.add_task("reading the corpus", total=None)
        corpus = Corpus.read(corpus_path, lambda done, total: progress.update(reading, completed=done, total=total))
        source = Source(
            kind=kind,
            shards=shards,
            count=len(corpus),
            corpus=stamp_of(corpus_path),
            retriever_name=name,
            retriever_model=model,
        )
        return build(output, source, lambda: EncodedCorpus(corpus, encoder()), progress, ask)


def _check_options(corpus_path: Path | None, model: str | None, from_index: Path | None, asked: Asked | None) -> None:
    if from_index is not None:
        if asked is not None and model is None:
            raise VectorIndexError(
                "--self-test-queries: have to be encoded; name the encoder that made the vectors with --retriever_model"
            )
        if corpus_path is not None or (model is not None and asked is None):
            raise VectorIndexError(
                "--from-index: holds the vectors already; leave --corpus_path and --retriever_model out"
            )
    elif corpus_path is None or model is None:
        missing = "--corpus_path" if corpus_path is None else "--retriever_model"
        raise VectorIndexError(f"{missing}: is missing; give a corpus and an encoder, or an index with --from-index")


def _need(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise VectorIndexError(f"{', '.join(missing)} not installed; run: pip install 'slime-search[retrieval]'")
