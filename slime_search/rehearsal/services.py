"""SGLang and its router on this machine's CPU, as processes that live as long as the code that needs them."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from slime_search.local.services import CPU_ENV, LocalService, ServiceDied, free_port
from slime_search.rehearsal.guard import GRACE_S
from slime_search.transport.readiness import ask

MAX_RUNNING = 128
CONTEXT_TOKENS = 1024
_REGISTERED_S = 60.0


def engine_command(python: Path, model: Path, port: int, seed: int) -> list[str]:
    """SGLang without what needs a GPU. Weights are bf16, as the trainer's, and nothing is kept between requests."""
    options = {
        "--model-path": str(model),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--device": "cpu",
        "--dtype": "bfloat16",
        "--attention-backend": "torch_native",
        "--sampling-backend": "pytorch",
        "--cuda-graph-backend-decode": "disabled",
        "--cuda-graph-backend-prefill": "disabled",
        "--max-running-requests": str(MAX_RUNNING),
        "--max-total-tokens": str(MAX_RUNNING * CONTEXT_TOKENS),
        "--context-length": str(CONTEXT_TOKENS),
        "--random-seed": str(seed),
    }
    flags = ["--disable-overlap-schedule", "--disable-radix-cache", "--sleep-on-idle"]
    return [str(python), "-m", "sglang.launch_server", *(part for option in options.items() for part in option), *flags]


def router_command(python: Path, port: int, metrics_port: int) -> list[str]:
    """The router without its health checks, each of which would cost the engine a forward pass.

    Its circuit breaker would turn ten connections that broke at once into a minute of 503 for everybody; slime's own
    routers do without it as well.
    """
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--policy": "round_robin",
        "--prometheus-host": "127.0.0.1",
        "--prometheus-port": str(metrics_port),
    }
    flat = [part for option in options.items() for part in option]
    flags = ["--disable-health-check", "--disable-circuit-breaker"]
    return [str(python), "-m", "sglang_router.launch_router", *flat, *flags]


def engine_environment(python_path: str) -> dict[str, str]:
    """What SGLang and its router are told: of the CPU, of one thread, and that nothing is downloaded."""
    return {
        **CPU_ENV,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "SGLANG_USE_CPU_ENGINE": "1",
        # SGLang closes a connection that was idle for 5 s, just as long as a step takes here, and the router then sends
        # the next rollout's first requests into connections that are being closed.
        "SGLANG_TIMEOUT_KEEP_ALIVE": "600",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONPATH": python_path,
    }


class GuardedService(LocalService):
    """A server of others, under ``guard.py``, since it does not know ``--exit-with-parent``."""

    stop_timeout_s = GRACE_S + 5

    def __init__(
        self, name: str, command: Sequence[str], *, ready_url: str, log_path: Path, env: Mapping[str, str] | None = None
    ) -> None:
        guarded = [sys.executable, "-m", "slime_search.rehearsal.guard", *command]
        super().__init__(name, guarded, ready_url=ready_url, log_path=log_path, env=env)


class SglangProcess(GuardedService):
    """The real SGLang over one Hugging Face folder."""

    def __init__(self, python: Path, model: Path, log_path: Path, *, python_path: str, seed: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = engine_command(python, model, self.port, seed)
        super().__init__(
            "engine",
            command,
            ready_url=f"{self.url}/model_info",
            log_path=log_path,
            env=engine_environment(python_path),
        )


class RouterProcess(GuardedService):
    """The real sglang-router, which knows no engine before ``add``."""

    def __init__(self, python: Path, log_path: Path, *, python_path: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = router_command(python, self.port, free_port())
        super().__init__(
            "router", command, ready_url=f"{self.url}/workers", log_path=log_path, env=engine_environment(python_path)
        )

    def add(self, engine: SglangProcess) -> None:
        """Registers a ready engine, and returns once requests reach it.

        Raises:
            ServiceDied: they do not within a minute.
        """
        answer = ask(f"{self.url}/workers", payload={"url": engine.url})
        deadline = time.monotonic() + _REGISTERED_S
        while answer.ready and not ask(f"{self.url}/get_model_info").ready:
            if time.monotonic() > deadline:
                raise ServiceDied(f"the router at {self.url} has not taken up {engine.url}.\n{self._tail()}")
            time.sleep(0.2)
        if not answer.ready:
            raise ServiceDied(f"the router at {self.url} does not take {engine.url}: {answer.reason}.\n{self._tail()}")
