"""What runs beside a training."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slime_search.launch import readiness


@dataclass(frozen=True, slots=True)
class Command:
    """A command line and what is added to the environment that it inherits. Both are printed: no secret goes there."""

    line: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As one would type it."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(self.line)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A server that the training needs."""

    name: str
    """Of its window, and in messages."""
    command: Command | None
    """None where it is somebody else's: it is only asked whether it is ready."""
    url: str
    """Without a path."""
    ready_path: str = "/ready"
    """Answers 2xx as soon as the server can be used; ``/health`` for SGLang and vLLM."""
    is_retriever: bool = False
    """Searched for one word where the server does not know ``ready_path``."""
    timeout_s: float
    """From the start of the services."""
    timeout_variable: str
    """The environment variable that sets ``timeout_s``, to be named when it was too short."""
    log_prefix: str

    def readiness(self) -> readiness.Readiness:
        if not self.is_retriever:
            return readiness.ask(f"{self.url}{self.ready_path}")
        return readiness.ask_retriever(self.url, os.environ.get("SLIME_SEARCH_RETRIEVER_TOKEN"))
