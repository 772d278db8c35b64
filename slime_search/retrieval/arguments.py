"""The options of the command line, each known with underscores, as in Search-R1, and with hyphens."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from slime_search.retrieval.collection import RetrieverName
from slime_search.retrieval.protocol import MAX_TOPK
from slime_search.retrieval.vectors.vector_index import Quantization

_SERVED, _COMPUTED, _SERVING = "What is served", "How it is computed", "How it serves"
_SCALED = "On many processes, through Ray Serve"


def _option(name: str, text: str, panel: str, **settings: Any) -> Any:
    names = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


def _positive(seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise typer.BadParameter(f"{seconds:g} is not a number of seconds above 0")
    return seconds


CorpusPath = Annotated[
    Path, _option("corpus_path", "JSON Lines, also gzipped: {id, contents} or {title, text} a line.", _SERVED)
]
Name = Annotated[
    RetrieverName,
    _option("retriever_name", "BM25, or the encoder's family; auto takes the model's own settings.", _SERVED),
]
IndexPath = Annotated[
    Path | None, _option("index_path", "A FAISS file, or a folder that build-index made; not for bm25.", _SERVED)
]
Model = Annotated[
    str | None,
    _option("retriever_model", "The encoder: a folder, or a name of the Hugging Face Hub; not for bm25.", _SERVED),
]
Hybrid = Annotated[bool, _option("hybrid", "Fuse BM25's ranking with the encoder's (reciprocal rank fusion).", _SERVED)]
Reranker = Annotated[
    str | None, _option("reranker", "A cross-encoder that orders the best passages anew.", _SERVED, show_default="none")
]
RerankDepth = Annotated[int, _option("rerank_depth", "Passages a query that it reads.", _SERVED, min=1)]
Topk = Annotated[int, _option("topk", "Passages a query where the request does not say.", _SERVED, min=1, max=MAX_TOPK)]
FaissGpu = Annotated[bool, _option("faiss_gpu", "Hold a flat index on all visible GPUs, in fp16.", _COMPUTED)]
QuantizationName = Annotated[
    Quantization,
    _option(
        "quantization",
        "How uncompressed vectors are held to be scanned; the best are scored from the vectors themselves. auto: bytes "
        "where this CPU is fast at them, fp16 on GPUs. For less memory still, see build-index.",
        _COMPUTED,
    ),
]
Device = Annotated[
    str,
    _option(
        "device", "Where encoder and reranker compute: cpu, cuda or cuda:0; auto is a GPU if there is one.", _COMPUTED
    ),
]
PrecisionName = Annotated[
    str,
    _option(
        "precision", "auto, fp32, bf16 or fp16; auto is fp16 on a GPU, else bf16 if this CPU is fast at it.", _COMPUTED
    ),
]
BatchSize = Annotated[int, _option("batch_size", "Texts a forward pass, at most.", _COMPUTED, min=1)]
Workers = Annotated[
    int | None,
    _option("workers", "Batches at once.", _COMPUTED, min=1, show_default="cores / threads; 2 on a GPU; 1 for bm25"),
]
Threads = Annotated[
    int,
    _option(
        "threads",
        "CPU threads a worker. More shorten the answer to a lone query and cost throughput.",
        _COMPUTED,
        min=1,
    ),
]
Replicas = Annotated[
    int | None,
    _option(
        "replicas",
        "Processes of each kind: encoder, part of the index, BM25, reranker.",
        _SCALED,
        min=1,
        show_default="this process alone",
    ),
]
MaxReplicas = Annotated[
    int | None,
    _option("max_replicas", "Grow up to so many of each under load.", _SCALED, min=1, show_default="replicas"),
]
Shards = Annotated[
    int | None, _option("shards", "Parts of the index, in processes of their own.", _SCALED, min=1, show_default="1")
]
ReplicaGpus = Annotated[
    float, _option("replica_gpus", "GPUs of a process that computes on one; 0.5 lets two share it.", _SCALED)
]
RayAddress = Annotated[
    str | None,
    _option(
        "ray_address",
        "A Ray cluster that runs: auto, or host:port.",
        _SCALED,
        envvar="RAY_ADDRESS",
        show_default="one of its own, on this machine",
    ),
]
QueueSize = Annotated[
    int,
    _option(
        "queue_size", "Queries that may wait for a search; a request beyond that is answered 503.", _SERVING, min=1
    ),
]
Deadline = Annotated[
    float | None,
    _option(
        "deadline",
        "Seconds after which a request is answered 503 and what still waits of it is not searched.",
        _SERVING,
        callback=_positive,
        show_default="none",
    ),
]
CacheMb = Annotated[
    int, _option("cache_mb", "Memory for the results of past searches, in MiB; 0 keeps none.", _SERVING, min=0)
]
Host = Annotated[str, _option("host", "The address to listen on.", _SERVING)]
Port = Annotated[int, _option("port", "The port to listen on; 0 takes any free one.", _SERVING, min=0, max=65535)]
ExitWithParent = Annotated[
    bool, _option("exit_with_parent", "End when stdin ends; for a parent that holds it as a pipe.", _SERVING)
]
