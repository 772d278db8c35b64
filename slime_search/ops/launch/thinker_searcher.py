"""What runs beside the training of a Thinker, and what has to be there for it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field, field_validator

from slime_search.ops.launch.checks import Problem, missing_modules, problems, taken_port
from slime_search.ops.launch.settings import Command, LaunchSettings, Service, is_here, server_url


class ThinkerLaunchSettings(LaunchSettings):
    """A training beside a retriever, the frozen model's engine and the Searcher service."""

    session_name: str = "thinker-searcher"
    searcher_checkpoint: Path = Path("/root/Qwen2.5-1.5B-Instruct")
    """The frozen model's folder."""
    searcher_script: Path = Path("launch_searcher.sh")
    """What windows 1 and 2 run, each with one of its servers."""
    searcher_server_url: str = "http://127.0.0.1:8001"
    """The Searcher service. One on another machine is asked only, and no engine is started here."""
    searcher_engine_url: str = ""
    """An inference server that has the frozen model already. Without one SGLang is started here."""
    searcher_engine_port: int = Field(30001, ge=1, le=65535)
    """Where it listens then."""
    sglang_config: str = ""
    """slime's own configuration of two models. The Searcher then needs neither service nor engine."""
    searcher_timeout: float = Field(600, gt=0)
    """Seconds until engine and service have to be ready."""
    stop_timeout: float = Field(900, gt=0)
    """Seconds that a process has to end before it is killed; the training saves the step under way."""

    @field_validator("searcher_server_url")
    @classmethod
    def _is_server_url(cls, value: str) -> str:
        return server_url(value, "/search")

    @field_validator("searcher_engine_url")
    @classmethod
    def _is_engine_url(cls, value: str) -> str:
        return server_url(value, "/v1") if value else value

    def how_to_get(self, path: Path | None) -> str:
        folder = path.parent if path is not None else Path("data")
        return f"make it with: slime-search prepare-data hotpotqa-only --output {folder}"

    @property
    def starts_searcher(self) -> bool:
        return not self.sglang_config and is_here(self.searcher_server_url)

    @property
    def engine_url(self) -> str:
        return self.searcher_engine_url or f"http://127.0.0.1:{self.searcher_engine_port}"

    @property
    def starts_engine(self) -> bool:
        return self.starts_searcher and not self.searcher_engine_url

    def services(self) -> Sequence[Service]:
        services = [self.retriever()]
        if self.starts_engine:
            services.append(self._engine())
        if not self.sglang_config:
            services.append(self._searcher())
        return services

    def training(self, options: Sequence[str]) -> Command:
        command = super().training(options)
        searcher = {
            "SEARCHER_SERVER_URL": self.searcher_server_url,
            "SLIME_SEARCH_SEARCHER_URL": f"{self.searcher_server_url}/search",
        }
        return Command(command.line, {**command.environment, **searcher})

    def _engine(self) -> Service:
        return Service(
            name="engine",
            command=Command(
                [str(self.searcher_script), "--only", "engine"],
                {"SEARCHER_ENGINE_PORT": str(self.searcher_engine_port)},
            ),
            url=self.engine_url,
            ready_path="/model_info",
            timeout_s=self.searcher_timeout,
            timeout_variable="SEARCHER_TIMEOUT",
            log_prefix="searcher_engine",
        )

    def _searcher(self) -> Service:
        environment = {
            "SEARCHER_SERVER_URL": self.searcher_server_url,
            "SEARCHER_ENGINE_URL": self.engine_url,
            "RETRIEVAL_SERVER_URL": self.retrieval_server_url,
        }
        line = [str(self.searcher_script), "--only", "service"]
        return Service(
            name="searcher",
            command=Command(line, environment) if self.starts_searcher else None,
            url=self.searcher_server_url,
            timeout_s=self.searcher_timeout,
            timeout_variable="SEARCHER_TIMEOUT",
            log_prefix="searcher_server",
        )


def thinker_problems(settings: ThinkerLaunchSettings, *, own_script: bool) -> Iterator[Problem]:
    """Everything that stands in the way, not only the first."""
    yield from problems(settings, own_script=own_script)
    if settings.starts_searcher:
        yield from missing_modules("searcher", "fastapi", "transformers", "prometheus_client")
        yield from taken_port(settings.searcher_server_url, "SEARCHER_SERVER_URL")
    if settings.starts_engine:
        if own_script and not (settings.searcher_checkpoint / "config.json").is_file():
            yield Problem(
                f"SEARCHER_CHECKPOINT: {settings.searcher_checkpoint} has no config.json",
                "hf download Qwen/Qwen2.5-1.5B-Instruct there",
            )
        yield from taken_port(settings.engine_url, "SEARCHER_ENGINE_PORT", is_port=True)
