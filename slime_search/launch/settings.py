"""What ``run_with_retrieval.sh`` is told by its environment."""

import os
import shlex
import socket
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

_LOCAL = {"127.0.0.1", "localhost", "::1", "0.0.0.0"}


class LaunchSettings(BaseSettings):
    """Each field is the environment variable of the same name in capitals."""

    session_name: str = Field("slime-search-r1", pattern=r"^[^.:=\s]+$")
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
    """Another port is passed on; a server on another machine is only asked whether it is ready."""
    retrieval_timeout: float = Field(120, gt=0)
    """Seconds until the retriever has to be ready."""
    stop_timeout: float = Field(30, gt=0)
    """Seconds that a process has to end before it is killed."""
    log_dir: Path = Path("logs")

    @field_validator("retrieval_server_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("write a URL with a host, such as http://127.0.0.1:8000")
        return value.rstrip("/").removesuffix("/retrieve")

    @property
    def port(self) -> int:
        """The server's."""
        parts = urlsplit(self.retrieval_server_url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def is_local(self) -> bool:
        """Whether the server is to be started here."""
        return urlsplit(self.retrieval_server_url).hostname in _LOCAL | {socket.gethostname()}

    @property
    def needs_index(self) -> bool:
        """Whether there is more to open than the corpus."""
        return self.retriever_name != "bm25"

    def retriever_command(self, python: str) -> list[str]:
        """The server's command line. The token travels in the environment."""
        command = [python, "-m", "slime_search.retrieval", "--retriever_name", self.retriever_name]
        command += ["--corpus_path", str(self.corpus_path), "--port", str(self.port)]
        if self.needs_index:
            command += ["--index_path", str(self.index_path), "--retriever_model", self.retriever_model]
        return command + shlex.split(self.retriever_options)

    def training_environment(self) -> dict[str, str]:
        """What tells the recipe where to search."""
        return os.environ | {"SLIME_SEARCH_LOCAL__SEARCH_URL": f"{self.retrieval_server_url}/retrieve"}
