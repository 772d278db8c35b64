"""An engine that runs: the embedded one, and one that renders messages itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from slime_search.local.engine.server import running_engine
from slime_search.ops.doctor import engine
from slime_search.ops.doctor.examine import carry_out
from slime_search.ops.doctor.results import Result, Status
from tests.ops.doctor.doctor_site import Site, statuses, the
from tests.support.loopback import status
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import ScriptedEngine


@pytest.fixture
async def embedded(site: Site) -> AsyncIterator[str]:
    """A real engine of a random model with the tokenizer for tool calls."""
    site.for_tools()
    folder = site.folder / "tools-model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    async with running_engine(folder, model, tokenizer) as url:
        yield url


def look_now(site: Site, url: str | None) -> list[Result]:
    setup = site.setup(engine_url=url)
    return [result for check in engine.CHECKS for result in carry_out(check, setup)]


async def look(site: Site, url: str) -> list[Result]:
    return await asyncio.to_thread(look_now, site, url)


async def test_the_embedded_engine(site: Site, embedded: str) -> None:
    found = await look(site, embedded)
    assert statuses(found) == {"/generate": Status.PASS, "chat route": Status.PASS}
    assert "returned 4 ids with log-probabilities" in the(found, "/generate").found
    assert the(found, "chat route").found.startswith("input_ids")


async def test_an_engine_of_another_model(site: Site, embedded: str, tmp_path: Path) -> None:
    config = tmp_path / "tools-model/config.json"
    size = len(AutoTokenizer.from_pretrained(tmp_path / "tools-model"))
    config.write_text(config.read_text().replace(f'"vocab_size": {size}', '"vocab_size": 1'))
    found = the(await look(site, embedded), "/generate")
    assert (found.status, "which HF_CHECKPOINT does not have" in found.found) == (Status.FAIL, True)


def test_a_server_that_renders_messages(site: Site, qwen: Any) -> None:
    site.for_tools()
    with ScriptedChat(qwen, lambda context: "yes", takes_ids=False, style="vllm") as server:
        found = look_now(site, server.url)
        assert statuses(found) == {"/generate": Status.WARN, "chat route": Status.WARN}
        site.change(SLIME_SEARCH_CHAT__TOKEN_IN="input_ids")
        assert the(look_now(site, server.url), "chat route").status is Status.FAIL
    with ScriptedChat(qwen, lambda context: "yes", takes_ids=False, style="text") as server:
        found = look_now(site, server.url)
        assert the(found, "chat route").status is Status.FAIL


def test_tags_need_generate_alone(site: Site, qwen: Any) -> None:
    with ScriptedEngine(qwen, lambda context: "yes") as server:
        assert statuses(look_now(site, server.url)) == {"/generate": Status.PASS, "chat route": Status.SKIP}
        server.script = lambda exchange: status(500)
        assert the(look_now(site, server.url), "/generate").status is Status.FAIL


def test_no_engine(site: Site) -> None:
    assert statuses(look_now(site, None)) == {"engine": Status.SKIP}
    (found, route) = look_now(site, f"http://127.0.0.1:{site.port}")
    assert (found.name, found.status, route.status) == ("engine", Status.FAIL, Status.SKIP)
