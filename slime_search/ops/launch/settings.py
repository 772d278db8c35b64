"""The settings of a run, from its environment."""

import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from slime_search.config import RETRIEVER_TOKEN
from slime_search.retrieval.choices import RetrieverName
from slime_search.transport import readiness


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
        return readiness.ask_retriever(self.url, token=os.environ.get(RETRIEVER_TOKEN))


_HERE = {"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"}


class LaunchSettings(BaseSettings):
    """A training beside a retriever. Each field is the environment variable of the same name in capitals.

    A run with more services is a subclass, with fields of its own and more in ``services``.
    """

    model_config = SettingsConfigDict(use_attribute_docstrings=True)
    session_name: str = "slime-search-r1"
    """The tmux session; another name for a second run beside the first."""
    train_script: Path | None = None
    """What window 1 runs."""
    index_path: Path | None = None
    """Where a FAISS file or a store of ``build-index`` is."""
    corpus_path: Path | None = None
    """Where the corpus is: JSON Lines, also gzipped."""
    retriever_name: str = "e5"
    """``bm25`` needs neither index nor encoder."""
    retriever_model: str = "intfloat/e5-base-v2"
    retriever_options: str = ""
    """More options of the server, as in a shell."""
    retrieval_server_url: str = "http://127.0.0.1:8000"
    """The server that is started listens where this says; one on another machine is only asked whether it is ready."""
    retrieval_timeout: float = Field(120, gt=0)
    """Seconds until the retriever has to be ready."""
    stop_timeout: float = Field(30, gt=0)
    """Seconds that a process has to end before it is killed."""
    log_dir: Path = Path("logs")

    @field_validator("session_name")
    @classmethod
    def _is_session_name(cls, value: str) -> str:
        if not value or any(mark in ".:=" or mark.isspace() for mark in value):
            raise ValueError("a tmux session's name has no blank, '.', ':' or '=' in it; write one such as my-run")
        return value

    @field_validator("retriever_name")
    @classmethod
    def _is_retriever_name(cls, value: str) -> str:
        if value not in list(RetrieverName):
            raise ValueError(f"expected is one of {', '.join(RetrieverName)}")
        return value

    @field_validator("retrieval_server_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return server_url(value, "/retrieve")

    def services(self) -> Sequence[Service]:
        """What has to be ready before the training starts."""
        return [self.retriever()]

    def training(self, options: Sequence[str]) -> Command:
        """The training, with what tells the recipe where its services are."""
        url = f"{self.retrieval_server_url}/retrieve"
        return Command([str(self.train_script), *options], {"SLIME_SEARCH_LOCAL__SEARCH_URL": url})

    def retriever(self) -> Service:
        return Service(
            name="retriever",
            command=Command(self._retriever_line()) if self.is_local else None,
            url=self.retrieval_server_url,
            is_retriever=True,
            timeout_s=self.retrieval_timeout,
            timeout_variable="RETRIEVAL_TIMEOUT",
            log_prefix="retrieval_server",
        )

    def how_to_get(self, path: Path | None) -> str:
        """What to do where corpus or index are missing."""
        if path is None:
            return "name a file there is, or fetch one with: slime-search download-wiki18 --save_path data"
        return f"fetch it with: slime-search download-wiki18 --save_path {path.parent}, or name another one"

    @property
    def is_local(self) -> bool:
        """Whether the retrieval server is to be started here."""
        return is_here(self.retrieval_server_url)

    @property
    def needs_index(self) -> bool:
        """Whether there is more to open than the corpus."""
        return self.retriever_name != "bm25"

    def _retriever_line(self) -> list[str]:
        """The token travels in the environment."""
        line = [sys.executable, "-m", "slime_search.cli", "serve-retriever", "--retriever_name", self.retriever_name]
        line += ["--corpus_path", str(self.corpus_path)]
        line += ["--host", host_of(self.retrieval_server_url), "--port", str(port_of(self.retrieval_server_url))]
        if self.needs_index:
            line += ["--index_path", str(self.index_path), "--retriever_model", self.retriever_model]
        return line + shlex.split(self.retriever_options)


def server_url(value: str, path: str) -> str:
    """A server's URL without a slash at its end, and without ``path`` if it ends in it.

    ``examples/search_r1/urls.sh`` does the same in a shell.

    >>> server_url("http://127.0.0.1:8000/retrieve/", "/retrieve"), server_url("http://[::1]:8000//", "/retrieve")
    ('http://127.0.0.1:8000', 'http://[::1]:8000')

    Raises:
        ValueError: it has no host.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or parts.query or parts.fragment:
        raise ValueError("write a URL with a host, such as http://127.0.0.1:8000")
    return value.rstrip("/").removesuffix(path).rstrip("/")


def host_of(url: str) -> str:
    """Where a server that is started listens, so that it is found at its URL."""
    return urlsplit(url).hostname or ""


def port_of(url: str) -> int:
    """Its port, named or the scheme's."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def is_here(url: str) -> bool:
    """Whether the URL is of this machine, so that its server is to be started."""
    host, name = host_of(url), socket.gethostname().lower()
    return host in _HERE or host == name or (host.startswith(f"{name}.") and host == socket.getfqdn().lower())
