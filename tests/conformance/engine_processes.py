"""The engines under test as processes: the embedded one, and SGLang, its router and vLLM where there are some."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import free_port

CONTEXT = 4096
MAX_RUNNING = 64
_START_S = float(os.environ.get("ENGINE_START_S", "270"))
"""Seconds that an engine may take to come up; more where the machine is busy."""
_END_S = 20.0


@dataclass(frozen=True)
class Server:
    """An engine that answers at ``url`` and serves ``model_path``."""

    name: str
    url: str
    model_path: Path


@contextmanager
def embedded(model_path: Path, log: Path) -> Iterator[Server]:
    """``slime_search.local.engine`` with its defaults."""
    options = ["--max-running-requests", str(MAX_RUNNING), "--context-length", str(CONTEXT), "--threads", "1"]
    command = [sys.executable, "-m", "slime_search.cli", "serve-engine", "--model-path", str(model_path), *options]
    with _running("embedded", command, dict(os.environ), model_path, log) as server:
        yield server


@contextmanager
def sglang(python: str, model_path: Path, log: Path, *, prefix_cache: bool = False) -> Iterator[Server]:
    """SGLang on the CPU, unless the environment or ``SGLANG_FLAGS``, which come last, say otherwise."""
    options = {
        "--model-path": str(model_path),
        "--device": "cpu",
        "--dtype": "float32",
        "--attention-backend": "torch_native",
        "--sampling-backend": "pytorch",
        "--cuda-graph-backend-decode": "disabled",
        "--cuda-graph-backend-prefill": "disabled",
        "--max-total-tokens": str(MAX_RUNNING * 1024),
        "--max-running-requests": str(MAX_RUNNING),
        "--context-length": str(CONTEXT),
        "--tool-call-parser": "qwen",
    }
    flags = [part for option in options.items() for part in option]
    # One that is idle would keep a core from the other, which another model's tests ask.
    flags += ["--disable-overlap-schedule", "--sleep-on-idle"]
    flags += [] if prefix_cache else ["--disable-radix-cache"]
    flags += os.environ.get("SGLANG_FLAGS", "").split()
    # More threads than cores to themselves make its many small steps crawl.
    defaults = {"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    command = [python, "-m", "sglang.launch_server", *flags]
    with _running("sglang", command, defaults | offline | os.environ, model_path, log) as server:
        yield server


@contextmanager
def router(python: str, engine: Server, log: Path) -> Iterator[Server]:
    """sglang-router before ``engine``."""
    command = [python, "-m", "sglang_router.launch_router", "--worker-urls", engine.url]
    command += ["--policy", "round_robin", "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    # On a busy machine SGLang's health, which takes a forward pass, is slow, and the router would leave it out.
    command += ["--health-check-timeout-secs", "120"]
    # It answers before it knows its engine, and forwards this once it does.
    with _running("router", command, dict(os.environ), engine.model_path, log, ready="/get_model_info") as server:
        yield server


@contextmanager
def vllm(python: str, model_path: Path, log: Path) -> Iterator[Server]:
    """vLLM on the CPU, unless the environment or ``VLLM_FLAGS``, which come last, say otherwise."""
    options = {
        "--model": str(model_path),
        "--served-model-name": "default",
        "--dtype": "float32",
        "--max-model-len": str(CONTEXT),
        "--max-num-seqs": str(MAX_RUNNING),
        "--tool-call-parser": "hermes",
    }
    flags = [part for option in options.items() for part in option]
    flags += ["--enable-auto-tool-choice", "--return-tokens-as-token-ids", "--enforce-eager"]
    defaults = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [python, "-m", "vllm.entrypoints.openai.api_server", *flags, *os.environ.get("VLLM_FLAGS", "").split()]
    with _running("vllm", command, defaults | os.environ, model_path, log, ready="/v1/models") as server:
        yield server


@contextmanager
def _running(
    name: str,
    command: list[str],
    environment: dict[str, str],
    model_path: Path,
    log: Path,
    *,
    ready: str = "/model_info",
) -> Iterator[Server]:
    port = free_port()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            _until_ready(process, url + ready, log)
            yield Server(name, url, model_path)
        finally:
            _end_group(process)


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                json.load(response)
                return
        except (urllib.error.URLError, OSError, ValueError):
            time.sleep(0.2)
    tail = log.read_text(errors="replace")[-4000:]
    raise RuntimeError(f"the server did not come up (exit code {process.poll()}):\n{tail}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all that it started. They share its group, as it leads a session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        if number == signal.SIGTERM:
            try:
                process.wait(timeout=_END_S)
            except subprocess.TimeoutExpired:
                continue
