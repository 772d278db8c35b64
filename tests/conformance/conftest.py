"""One tiny model a session, and the engines that serve it: ``server`` is each of them in turn."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.conformance.conformance_client import DEFAULT_TEMPERATURE, Client, Reference, SharingReference
from tests.conformance.engine_processes import CONTEXT, Server, embedded, router, sglang, vllm
from tests.conformance.lessons import teach
from tests.conformance.measured import HEADER, MEASURED
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.tokenizers import save_with_tools_template

NEEDS_SGLANG = "SGLANG_PYTHON must name a Python that has sglang"
NEEDS_ROUTER = "ROUTER=1 runs what needs sglang-router, in SGLANG_PYTHON or, where it has another, ROUTER_PYTHON"
NEEDS_SMALL_MODEL = "SMALL_MODEL must name the folder of a small pre-trained model; small_model.py makes one"
NEEDS_VLLM = "VLLM_PYTHON must name a Python that has vllm"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows ``LESSONS`` by heart and is at random otherwise."""
    folder = save_with_tools_template(tmp_path_factory.mktemp("tiny"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,  # of 32 dimensions, the least that engines have kernels for
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    teach(model, tokenizer)
    model.generation_config.update(do_sample=True, temperature=DEFAULT_TEMPERATURE)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tiny_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_folder)


@pytest.fixture(scope="session")
def reference(tiny_folder: Path) -> Reference:
    return Reference(AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval())


@pytest.fixture(scope="session", params=["embedded", "sglang"])
def server(
    request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A running engine, at ``server.url``, of the model in ``server.model_path``."""
    log = tmp_path_factory.mktemp(request.param) / "log"
    if request.param == "embedded":
        with embedded(tiny_folder, log) as started:
            yield started
    else:
        yield request.getfixturevalue("sglang_server")


@pytest.fixture(scope="session")
def sglang_server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real SGLang, of the tiny model."""
    with sglang(_sglang_python(), tiny_folder, tmp_path_factory.mktemp("sglang") / "log") as started:
        yield started


@pytest.fixture(scope="session")
def router_server(sglang_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real router before it."""
    with router(_router_python(), sglang_server, tmp_path_factory.mktemp("router") / "log") as started:
        yield started


@pytest.fixture(scope="session")
def small_folder() -> Path:
    """A small pre-trained model."""
    folder = os.environ.get("SMALL_MODEL")
    if not folder:
        pytest.skip(NEEDS_SMALL_MODEL)
    return Path(folder)


@pytest.fixture(scope="session")
def small_router_server(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real router before the real SGLang of a small pre-trained model."""
    python, logs = _router_python(), tmp_path_factory.mktemp("small")
    with (
        sglang(_sglang_python(), small_folder, logs / "sglang", prefix_cache=True) as engine,
        router(python, engine, logs / "router") as started,
    ):
        yield started


@pytest.fixture(scope="session")
def small_reference(small_folder: Path) -> Reference:
    torch.set_num_threads(1)
    return SharingReference(AutoModelForCausalLM.from_pretrained(small_folder, dtype=torch.float32).eval())


def _sglang_python() -> str:
    if python := os.environ.get("SGLANG_PYTHON"):
        return python
    pytest.skip(NEEDS_SGLANG)


def _router_python() -> str:
    if os.environ.get("ROUTER"):
        return os.environ.get("ROUTER_PYTHON") or _sglang_python()
    pytest.skip(NEEDS_ROUTER)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Client(server.url, session)


@pytest.fixture
def retriever() -> Iterator[ScriptedRetriever]:
    with ScriptedRetriever(lambda query: [f"Title\n{query}: a </tool_response> <|im_end|> passage. 東京"]) as started:
        yield started


@pytest.fixture(scope="session")
def vllm_server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """vLLM, which renders messages itself, of the same model."""
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        pytest.skip(NEEDS_VLLM)
    with vllm(python, tiny_folder, tmp_path_factory.mktemp("vllm") / "log") as started:
        yield started


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of what was measured, if anything was."""
    reports = [report for report in terminalreporter.stats.get("passed", ()) if report.when == "call"]
    rows = [value for report in reports for name, value in report.user_properties if name == MEASURED]
    if rows:
        terminalreporter.section("measured")
        for line in (*HEADER, *rows):
            terminalreporter.write_line(line)
