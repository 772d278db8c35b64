"""Which processes a collection needs, and the retriever that uses them."""

from dataclasses import replace
from pathlib import Path

from slime_search.retrieval.choices import RetrieverName
from slime_search.retrieval.cluster.applications import Program
from slime_search.retrieval.cluster.remote import Processes, RemoteCrossEncoder, RemoteEncoder, RemoteIndex, RemoteWords
from slime_search.retrieval.cluster.replicas import EncoderReplica, PartReplica, RerankerReplica, WordsReplica
from slime_search.retrieval.collection import Collection, RetrieverSettings, check_fit
from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.errors import SetupError
from slime_search.retrieval.retriever import DenseRetriever, HybridRetriever, RerankedRetriever, Retriever
from slime_search.retrieval.vectors.vector_index import Part


def for_processes(settings: RetrieverSettings, *, has_gpus: bool) -> RetrieverSettings:
    """The settings as they hold in another process: folders from the root on, and one GPU at most.

    Raises:
        SetupError: a device that a process on a cluster can't have.
    """
    return replace(
        settings,
        corpus_path=settings.corpus_path.absolute(),
        index_path=settings.index_path and settings.index_path.absolute(),
        model=settings.model and _absolute(settings.model),
        reranker=settings.reranker and _absolute(settings.reranker),
        device=_device(settings.device, has_gpus),
        index_device=_device(settings.index_device, has_gpus),
    )


def programs_of(settings: RetrieverSettings, shards: int) -> dict[str, Program]:
    """By name."""
    on_gpu = settings.device == "cuda"
    programs: dict[str, Program] = {}
    if settings.name != RetrieverName.BM25:
        programs["encoder"] = Program(EncoderReplica, (settings,), on_gpu)
        for index in range(shards):
            part = Part(index, shards) if shards > 1 else None
            programs[_part_name(index)] = Program(PartReplica, (settings, part), settings.index_device == "cuda")
    if settings.name == RetrieverName.BM25 or settings.hybrid:
        programs["bm25"] = Program(WordsReplica, (settings,), on_gpu=False)
    if settings.reranker is not None:
        programs["reranker"] = Program(RerankerReplica, (settings,), on_gpu)
    return programs


def collection_of(
    settings: RetrieverSettings,
    shards: int,
    corpus: Corpus,
    processes: dict[str, Processes],
) -> Collection:
    """What searches with the processes of ``programs_of``. Raises SetupError where index and corpus do not fit."""
    retrievers: list[Retriever] = []
    effort = None
    if "encoder" in processes:
        encoder = RemoteEncoder(processes["encoder"])
        index = RemoteIndex([processes[_part_name(number)] for number in range(shards)])
        check_fit(settings, vectors=index.count, rows=len(corpus), dimension=index.dimension, made=encoder.dimension)
        effort = index.effort
        retrievers.append(DenseRetriever(encoder, index))
    if "bm25" in processes:
        retrievers.append(RemoteWords(processes["bm25"]))
    retriever = retrievers[0] if len(retrievers) == 1 else HybridRetriever(retrievers)
    if "reranker" in processes:
        cross_encoder = RemoteCrossEncoder(processes["reranker"])
        retriever = RerankedRetriever(retriever, corpus, cross_encoder, depth=settings.rerank_depth)
    return Collection(corpus, retriever, effort)


def _part_name(index: int) -> str:
    return f"part-{index}"


def _absolute(model: str) -> str:
    """A folder from the root on; a name of the Hub as it is."""
    return str(Path(model).absolute()) if Path(model).exists() else model


def _device(device: str, has_gpus: bool) -> str:
    if device == "auto":
        return "cuda" if has_gpus else "cpu"
    if device not in ("cpu", "cuda"):
        raise SetupError(f"device: {device!r} can't be chosen here, since Ray gives processes their GPUs; write cuda")
    if device == "cuda" and not has_gpus:
        raise SetupError(
            "device: cuda needs a GPU, and the Ray cluster has none; write cpu, or start it with --num-gpus"
        )
    return device
