"""``python -m slime_search.retrieval``: serves a corpus."""

import os
import signal
from functools import partial
from types import FrameType

import typer

from slime_search.retrieval import arguments
from slime_search.retrieval.cluster.loading import load_cluster
from slime_search.retrieval.cluster.scale import Scale
from slime_search.retrieval.collection import RetrieverName, RetrieverSettings, load_collection
from slime_search.retrieval.computing import plan
from slime_search.retrieval.errors import SetupError
from slime_search.retrieval.options import ServingOptions
from slime_search.retrieval.server import ListenError, serve
from slime_search.retrieval.vectors.vector_index import Quantization

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

TOKEN_VARIABLE = "SLIME_SEARCH_RETRIEVER_TOKEN"
_DEFAULTS = ServingOptions()


@app.command()
def main(
    corpus_path: arguments.CorpusPath,
    retriever_name: arguments.Name = RetrieverName.BM25,
    index_path: arguments.IndexPath = None,
    retriever_model: arguments.Model = None,
    hybrid: arguments.Hybrid = False,
    reranker: arguments.Reranker = None,
    rerank_depth: arguments.RerankDepth = 50,
    topk: arguments.Topk = _DEFAULTS.default_topk,
    faiss_gpu: arguments.FaissGpu = False,
    quantization: arguments.QuantizationName = Quantization.AUTO,
    device: arguments.Device = "auto",
    precision: arguments.PrecisionName = "auto",
    batch_size: arguments.BatchSize = 64,
    workers: arguments.Workers = None,
    threads: arguments.Threads = 1,
    replicas: arguments.Replicas = None,
    max_replicas: arguments.MaxReplicas = None,
    shards: arguments.Shards = None,
    replica_gpus: arguments.ReplicaGpus = 1.0,
    ray_address: arguments.RayAddress = None,
    queue_size: arguments.QueueSize = _DEFAULTS.queue_size,
    deadline: arguments.Deadline = _DEFAULTS.deadline_s,
    cache_mb: arguments.CacheMb = _DEFAULTS.cache_bytes >> 20,
    host: arguments.Host = "127.0.0.1",
    port: arguments.Port = 8000,
    exit_with_parent: arguments.ExitWithParent = False,
) -> None:
    """Serves a corpus over Search-R1's /retrieve protocol.

    BM25 needs a corpus alone; an encoder needs the index of its vectors as well (see build-index).

    Where the environment holds SLIME_SEARCH_RETRIEVER_TOKEN, /retrieve and /metrics ask for it as a bearer token.
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
        precision=precision,
        batch_size=batch_size,
        hybrid=hybrid,
        reranker=reranker,
        rerank_depth=rerank_depth,
    )
    try:
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
        options = ServingOptions(
            default_topk=topk,
            workers=workers,
            queue_size=queue_size,
            deadline_s=deadline,
            cache_bytes=cache_mb << 20,
            token=os.environ.get(TOKEN_VARIABLE, "").strip() or None,
        )
        serve(load, host=host, port=port, options=options, exit_with_parent=exit_with_parent)
    except (SetupError, ListenError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Ends the process with code 0; the server shuts down first, then raises the signal again."""
    raise SystemExit(0)


if __name__ == "__main__":
    app()
