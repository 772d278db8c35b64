"""How much of everything there is."""

from dataclasses import dataclass

from slime_search.retrieval.errors import SetupError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Raises SetupError where a number can't be had."""

    replicas: int = 1
    """Processes for the encoder, for every part of the index, for BM25 and for the reranker: so many of each."""
    max_replicas: int | None = None
    """Where it is more than ``replicas``, each of these grows up to it under load and shrinks again."""
    shards: int = 1
    """Parts of the index; each is held by processes of its own."""
    threads: int = 1
    """CPU threads of a process."""
    gpus: float = 1.0
    """GPUs of a process that computes on one; below 1, several share it."""
    ray_address: str | None = None
    """A Ray cluster that runs already, as ``host:port`` or ``auto``; None starts one on this machine alone."""

    def __post_init__(self) -> None:
        for name in ("replicas", "shards", "threads"):
            if (value := getattr(self, name)) < 1:
                raise SetupError(f"{name}: {value} is too few; there must be at least 1")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise SetupError(f"max_replicas: {self.max_replicas} is below replicas, {self.replicas}; raise it")
        if not self.gpus > 0:
            raise SetupError(f"gpus: {self.gpus:g} is not a share of a GPU; give a number above 0")

    @property
    def most(self) -> int:
        """How many replicas of one kind there may be."""
        return self.max_replicas or self.replicas

    @property
    def workers(self) -> int:
        """How many batches to keep under way: one is encoded while another is looked up."""
        return 2 * self.most

    @property
    def cpus(self) -> int:
        """CPUs for all processes: of the encoder, of BM25, of the reranker and of every part."""
        return (3 + self.shards) * self.most * self.threads
