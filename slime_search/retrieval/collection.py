"""What is served, and how it is put together from files and models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.progress import Progress

from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.choices import Precision, RetrieverName, is_device
from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.errors import CorpusError, SetupError
from slime_search.retrieval.retriever import DenseRetriever, HybridRetriever, RerankedRetriever, Retriever
from slime_search.retrieval.vectors.vector_index import Quantization
from slime_search.retrieval.words import Language, splitter_of

if TYPE_CHECKING:
    from slime_search.retrieval.vectors.effort import Effort


class ProcessFacts(NamedTuple):
    """What is known of the processes that do one thing."""

    running: int
    lost: int
    """How many have ended that should not have; Ray Serve starts others in their place."""
    retries: int
    """Calls that were sent again after one had failed."""


class Collection(NamedTuple):
    """The hits of ``retriever`` are positions in ``corpus``."""

    corpus: Corpus
    retriever: Retriever
    effort: "Effort | None" = None
    """How hard an approximate index searches."""
    close: Callable[[], object] = lambda: None
    """Ends what the retriever has started elsewhere."""
    check: Callable[[], object] = lambda: None
    """Raises Unavailable where nothing could answer now."""
    processes: Callable[[], Mapping[str, ProcessFacts]] = dict
    """The other processes that it needs, by what they do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverSettings:
    """What to serve."""

    corpus_path: Path
    name: RetrieverName = RetrieverName.BM25
    index_path: Path | None = None
    """A FAISS file or a folder of ``build-index``; every name but ``bm25`` needs it."""
    model: str | None = None
    """The encoder: a folder or a name of the Hub; every name but ``bm25`` needs it."""
    device: str = "cpu"
    """Where encoder and reranker compute."""
    index_device: str = "cpu"
    """Where the index is scanned."""
    quantization: Quantization = Quantization.AUTO
    """How uncompressed vectors are held for that."""
    nprobe: int | None = None
    """Lists that an IVF index searches; None measures how many it takes."""
    ef_search: int | None = None
    """Candidates that an HNSW index keeps; None measures how many it takes."""
    precision: str = "auto"
    batch_size: int = 64
    """Texts a forward pass, at most."""
    bm25_language: Language = Language.ENGLISH
    """Whose words BM25 stems, and whose stop words it leaves out."""
    hybrid: bool = False
    """Whether BM25 is fused with the encoder's ranking."""
    reranker: str | None = None
    """A cross-encoder: a folder or a name of the Hub."""
    rerank_depth: int = 50
    """Passages that it scores for a query."""


def load_collection(settings: RetrieverSettings, progress: Progress) -> Collection:
    """Opens the corpus, and the index or the indexes over it.

    Raises:
        SetupError: a file, a model or an option can't be used, or they do not fit each other.
    """
    check_settings(settings)
    corpus = open_corpus(settings.corpus_path, progress)
    retrievers: list[Retriever] = []
    effort = None
    if settings.name != RetrieverName.BM25:
        dense = _dense(settings, corpus, progress)
        effort = dense.effort
        retrievers.append(dense)
    if settings.name == RetrieverName.BM25 or settings.hybrid:
        retrievers.append(index_words(settings, corpus, progress))
    return Collection(corpus, refined(settings, corpus, retrievers, progress), effort)


def open_corpus(path: Path, progress: Progress) -> Corpus:
    """Raises CorpusError."""
    reading = progress.add_task("reading the corpus", total=None)
    return Corpus.read(path, lambda done, total: progress.update(reading, completed=done, total=total))


def index_words(settings: RetrieverSettings, corpus: Corpus, progress: Progress) -> Bm25Index:
    """Raises SetupError where no passage holds a word, or what the language needs is not installed."""
    split = splitter_of(settings.bm25_language)
    texts = progress.track(corpus.texts(), total=len(corpus), description="indexing")
    try:
        return Bm25Index.build(texts, split)
    except ValueError as error:
        raise CorpusError(f"{settings.corpus_path}: {error}; is this the right file?") from error


def refined(settings: RetrieverSettings, corpus: Corpus, retrievers: list[Retriever], progress: Progress) -> Retriever:
    """One retriever of several, reranked where that is wanted. Raises SetupError."""
    retriever = retrievers[0] if len(retrievers) == 1 else HybridRetriever(retrievers)
    if settings.reranker is None:
        return retriever
    from slime_search.retrieval.encoders.cross_encoder import load_cross_encoder

    progress.add_task(f"loading {settings.reranker}", total=None)
    cross_encoder = load_cross_encoder(
        settings.reranker, device=settings.device, precision=settings.precision, batch_size=settings.batch_size
    )
    return RerankedRetriever(retriever, corpus, cross_encoder, depth=settings.rerank_depth)


def check_fit(settings: RetrieverSettings, *, vectors: int, rows: int, dimension: int, made: int) -> None:
    """Refuses an index of another corpus or of another encoder.

    Args:
        settings: what messages name.
        vectors: how many the index holds.
        rows: passages in the corpus.
        dimension: the length of the index's vectors.
        made: the length of the encoder's.

    Raises:
        SetupError: they differ.
    """
    if vectors != rows:
        raise SetupError(
            f"index_path: {settings.index_path} holds {vectors:,} vectors, but corpus_path: {settings.corpus_path} "
            f"holds {rows:,} passages",
            "name the corpus that the index was built from",
        )
    if dimension != made:
        raise SetupError(
            f"index_path: {settings.index_path} holds vectors of {dimension} numbers, but retriever_model: "
            f"{settings.model} makes vectors of {made}",
            "name the model that the index was built with",
        )


def report(effort: "Effort | None", progress: Progress) -> None:
    """Says on stderr how hard an approximate index searches, and warns where it finds too little."""
    if effort is None:
        return
    progress.console.print(f"index: {effort}", highlight=False, soft_wrap=True)
    if effort.loses:
        progress.console.print(
            "[yellow]warning:[/] the index holds codes alone, and what they lose can't be measured from its file; an "
            "index with RFlat, or a store of build-index, scores what it finds from the vectors",
            highlight=False,
            soft_wrap=True,
        )
    if effort.is_low:
        progress.console.print(
            f"[yellow]warning:[/] the index misses more than 5% of the best passages; raise --{effort.setting}, or "
            "build it with more lists, links or longer codes",
            highlight=False,
            soft_wrap=True,
        )


def check_settings(settings: RetrieverSettings) -> None:
    """Raises SetupError where options are missing, exclude each other, or can't be."""
    if settings.precision not in list(Precision):
        raise SetupError(f"precision: {settings.precision!r} is not one of {', '.join(Precision)}")
    if not is_device(settings.device):
        raise SetupError(f"device: {settings.device!r} is no device; write auto, cpu, cuda or cuda:0")
    if settings.name == RetrieverName.BM25:
        if settings.hybrid:
            raise SetupError("hybrid: fuses BM25 with an encoder; set retriever_name to one, e5 for example")
        _refuse_what_bm25_lacks(settings)
        return
    for option, value in (("index_path", settings.index_path), ("retriever_model", settings.model)):
        if value is None:
            raise SetupError(f"{option}: retriever_name {settings.name} needs it (bm25 needs neither index nor model)")


def _refuse_what_bm25_lacks(settings: RetrieverSettings) -> None:
    """Of the index options that mean nothing to BM25, names the first that is set. Raises SetupError."""
    given: dict[str, object] = {
        "index_path": settings.index_path,
        "retriever_model": settings.model,
        "nprobe": settings.nprobe,
        "ef_search": settings.ef_search,
        "faiss_gpu": None if settings.index_device == "cpu" else True,
        "quantization": None if settings.quantization == Quantization.AUTO else settings.quantization,
    }
    if settings.reranker is None:
        given |= {
            "device": None if settings.device in ("auto", "cpu") else settings.device,
            "precision": None if settings.precision == Precision.AUTO else settings.precision,
        }
    for option, value in given.items():
        if value is not None:
            raise SetupError(
                f"{option}: {value}: bm25 has neither index nor encoder; leave it out, or name the encoder's family "
                "with retriever_name, e5 for example"
            )


def _dense(settings: RetrieverSettings, corpus: Corpus, progress: Progress) -> DenseRetriever:
    from slime_search.retrieval.encoders.loading import load_encoder
    from slime_search.retrieval.vectors.opening import open_index

    assert settings.index_path is not None and settings.model is not None
    opening = progress.add_task("opening the index", total=None)
    index = open_index(
        settings.index_path,
        device=settings.index_device,
        quantization=settings.quantization,
        nprobe=settings.nprobe,
        ef_search=settings.ef_search,
        corpus_ids=corpus.ids,
        on_progress=lambda done, total: progress.update(opening, completed=done, total=total),
    )
    progress.add_task(f"loading {settings.model}", total=None)
    encoder = load_encoder(
        settings.model,
        family=settings.name,
        device=settings.device,
        precision=settings.precision,
        batch_size=settings.batch_size,
    )
    check_fit(settings, vectors=index.count, rows=len(corpus), dimension=index.dimension, made=encoder.dimension)
    report(index.effort, progress)
    return DenseRetriever(encoder, index)
