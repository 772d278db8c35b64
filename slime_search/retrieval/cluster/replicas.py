"""What runs in Ray's processes. Each loads by path and settings, and is used by several threads at once."""

import os
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import ray
from ray import serve

from slime_search.retrieval.collection import RetrieverSettings
from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.encoders.encoder import Vectors
from slime_search.retrieval.retriever import Hit
from slime_search.retrieval.vectors.vector_index import Neighbours, Part

if TYPE_CHECKING:
    from slime_search.retrieval.vectors.effort import Effort

_NAMESPACE = "slime-search"


class _Sign:
    """Ray ends it with the process that made it. It does nothing else."""


class Owner:
    """To be kept for as long as what has its ``name`` is to go on."""

    def __init__(self) -> None:
        self.name = f"owner-{secrets.token_hex(8)}"
        # Without the reference, Ray would end it at once.
        self._sign = (
            ray.remote(_Sign).options(name=self.name, namespace=_NAMESPACE, num_cpus=0, max_restarts=-1).remote()
        )


def end_with(name: str) -> None:
    """Deletes the application of the process that calls it, if the owner of that name is gone."""
    try:
        ray.get_actor(name, namespace=_NAMESPACE)
    except ValueError:
        serve.delete(serve.get_replica_context().app_name, _blocking=False)


class Surroundings(NamedTuple):
    """Where a replica runs."""

    threads: int
    owner: str | None
    """Whom it may not outlive."""
    is_alone: bool = False
    """Whether the Ray is of this machine alone."""


def _listen_on_loopback() -> None:
    """Ray Serve opens a port in every replica, on every interface, once the replica is made; there is no setting.

    Where another version of Serve does it otherwise this changes nothing, and ``RayConnection.check_listens_here``,
    which looks at the ports themselves, decides.
    """
    import ray.serve._private.replica as serve_replica

    add_port = getattr(serve_replica, "add_port_to_grpc_server", None)
    if add_port is not None:
        serve_replica.add_port_to_grpc_server = lambda server, address: add_port(
            server, address.replace("[::]", "127.0.0.1")
        )


class Replica:
    """To be made before torch and FAISS are imported, which read then how many threads they may use."""

    def __init__(self, surroundings: Surroundings) -> None:
        os.environ["OMP_NUM_THREADS"] = str(surroundings.threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._owner = surroundings.owner
        if surroundings.is_alone:
            _listen_on_loopback()

    def check_health(self) -> None:
        """Ray Serve calls it every few seconds."""
        if self._owner is not None:
            end_with(self._owner)


class EncoderReplica(Replica):
    """Makes vectors of queries."""

    def __init__(self, surroundings: Surroundings, settings: RetrieverSettings) -> None:
        super().__init__(surroundings)
        from slime_search.retrieval.encoders.loading import load_encoder

        assert settings.model is not None
        self._encoder = load_encoder(
            settings.model,
            family=settings.name,
            device=settings.device,
            precision=settings.precision,
            batch_size=settings.batch_size,
        )

    def dimension(self) -> int:
        return self._encoder.dimension

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encoder.encode_queries(texts)


class PartReplica(Replica):
    """Holds one part of the index, or all of it."""

    def __init__(self, surroundings: Surroundings, settings: RetrieverSettings, part: Part | None) -> None:
        super().__init__(surroundings)
        from slime_search.retrieval.vectors.opening import open_index

        assert settings.index_path is not None
        self._index = open_index(
            settings.index_path,
            device=settings.index_device,
            part=part,
            quantization=settings.quantization,
            nprobe=settings.nprobe,
            ef_search=settings.ef_search,
            corpus_ids=lambda: Corpus.read(settings.corpus_path).ids(),
        )

    def shape(self) -> tuple[int, int]:
        """How many vectors the part holds, and their length."""
        return self._index.count, self._index.dimension

    def effort(self) -> "Effort | None":
        return self._index.effort

    def search(self, queries: Vectors, topk: int) -> Neighbours:
        # What Ray delivers is read-only, which torch warns about.
        return self._index.search(np.require(queries, requirements="W"), topk)


class WordsReplica(Replica):
    """Holds BM25 over the whole corpus: a word's weight depends on all passages, so that parts would rank otherwise."""

    def __init__(self, surroundings: Surroundings, settings: RetrieverSettings) -> None:
        super().__init__(surroundings)
        from rich.progress import Progress

        from slime_search.retrieval.collection import index_words, open_corpus

        progress = Progress(disable=True)
        corpus = open_corpus(settings.corpus_path, progress)
        self._index = index_words(settings, corpus, progress)

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        return self._index.search(queries, topk)


class RerankerReplica(Replica):
    """Scores passages for queries."""

    def __init__(self, surroundings: Surroundings, settings: RetrieverSettings) -> None:
        super().__init__(surroundings)
        from slime_search.retrieval.encoders.cross_encoder import load_cross_encoder

        assert settings.reranker is not None
        self._cross_encoder = load_cross_encoder(
            settings.reranker, device=settings.device, precision=settings.precision, batch_size=settings.batch_size
        )

    def score(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        return self._cross_encoder.score(pairs)
