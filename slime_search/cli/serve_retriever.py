"""``slime-search serve-retriever``. Options are known with underscores, as in Search-R1, and with hyphens."""

import math
import os
import signal
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from slime_search.cli.checking import look_for_model
from slime_search.cli.console import one_sentence
from slime_search.retrieval.choices import Precision, RetrieverName
from slime_search.retrieval.cluster.loading import Scale, load_cluster
from slime_search.retrieval.collection import RetrieverSettings, check_settings, load_collection
from slime_search.retrieval.computing import plan
from slime_search.retrieval.loading import ServingOptions
from slime_search.retrieval.protocol import MAX_TOPK
from slime_search.retrieval.server import serve
from slime_search.retrieval.vectors.vector_index import Quantization
from slime_search.retrieval.words import Language

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
Bm25Language = Annotated[
    Language,
    _option(
        "bm25_language",
        "Whose words BM25 stems, and whose stop words it leaves out, in passages and queries alike; none takes words "
        "as they are.",
        _SERVED,
    ),
]
Hybrid = Annotated[
    bool,
    _option("hybrid", "Fuse BM25's ranking with the encoder's; scores are the sums of 1 / (60 + rank) then.", _SERVED),
]
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
Nprobe = Annotated[
    int | None,
    _option(
        "nprobe", "Lists that an IVF index searches.", _COMPUTED, min=1, show_default="measured: as many as it takes"
    ),
]
EfSearch = Annotated[
    int | None,
    _option(
        "ef_search",
        "Candidates that an HNSW index keeps.",
        _COMPUTED,
        min=1,
        show_default="measured: as many as it takes",
    ),
]
Device = Annotated[
    str,
    _option(
        "device", "Where encoder and reranker compute: cpu, cuda or cuda:0; auto is a GPU if there is one.", _COMPUTED
    ),
]
PrecisionName = Annotated[
    Precision,
    _option("precision", "What it computes in; auto is fp16 on a GPU, else bf16 if this CPU is fast at it.", _COMPUTED),
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


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

TOKEN_VARIABLE = "SLIME_SEARCH_RETRIEVER_TOKEN"
_DEFAULTS = ServingOptions()


@app.command()
def main(
    corpus_path: CorpusPath,
    retriever_name: Name = RetrieverName.BM25,
    index_path: IndexPath = None,
    retriever_model: Model = None,
    bm25_language: Bm25Language = Language.ENGLISH,
    hybrid: Hybrid = False,
    reranker: Reranker = None,
    rerank_depth: RerankDepth = 50,
    topk: Topk = _DEFAULTS.default_topk,
    faiss_gpu: FaissGpu = False,
    quantization: QuantizationName = Quantization.AUTO,
    nprobe: Nprobe = None,
    ef_search: EfSearch = None,
    device: Device = "auto",
    precision: PrecisionName = Precision.AUTO,
    batch_size: BatchSize = 64,
    workers: Workers = None,
    threads: Threads = 1,
    replicas: Replicas = None,
    max_replicas: MaxReplicas = None,
    shards: Shards = None,
    replica_gpus: ReplicaGpus = 1.0,
    ray_address: RayAddress = None,
    queue_size: QueueSize = _DEFAULTS.queue_size,
    deadline: Deadline = _DEFAULTS.deadline_s,
    cache_mb: CacheMb = _DEFAULTS.cache_bytes >> 20,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    exit_with_parent: ExitWithParent = False,
) -> None:
    """Serves a corpus over Search-R1's /retrieve protocol.

    slime-search serve-retriever --corpus_path wiki-18.jsonl

    slime-search serve-retriever --corpus_path wiki-18.jsonl \\
      --retriever_name e5 --retriever_model intfloat/e5-base-v2 \\
      --index_path e5_Flat.index --port 8000

    BM25, the default, needs a corpus alone; an encoder needs the index of its
    vectors as well (see slime-search build-index).

    Where the environment holds SLIME_SEARCH_RETRIEVER_TOKEN, /retrieve and
    /metrics ask for it as a bearer token.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    settings = RetrieverSettings(
        corpus_path=corpus_path,
        name=retriever_name,
        index_path=index_path,
        model=retriever_model,
        device=device,
        index_device="cuda" if faiss_gpu else "cpu",
        quantization=quantization,
        nprobe=nprobe,
        ef_search=ef_search,
        precision=precision,
        batch_size=batch_size,
        bm25_language=bm25_language,
        hybrid=hybrid,
        reranker=reranker,
        rerank_depth=rerank_depth,
    )
    with one_sentence():
        check_settings(settings)
        if replicas is max_replicas is shards is None:
            computing = plan(settings, threads, workers)
            load = partial(load_collection, computing.settings)
            workers = computing.workers
        else:
            scale = Scale(
                replicas=replicas or 1,
                max_replicas=max_replicas,
                shards=shards or 1,
                threads=threads,
                gpus=replica_gpus,
                ray_address=ray_address,
            )
            load = partial(load_cluster, settings, scale)
            workers = workers or scale.workers
        for option, name in (("--retriever_model", retriever_model), ("--reranker", reranker)):
            if name is not None:
                look_for_model(option, name)
        options = ServingOptions(
            default_topk=topk,
            workers=workers,
            queue_size=queue_size,
            deadline_s=deadline,
            cache_bytes=cache_mb << 20,
            token=os.environ.get(TOKEN_VARIABLE, "").strip() or None,
        )
        serve(load, host=host, port=port, options=options, exit_with_parent=exit_with_parent)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Ends the process with code 0; the server shuts down first, then raises the signal again."""
    raise SystemExit(0)
