"""An engine that runs: the embedded one, and one that renders messages itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from slime_search.local.engine.server import running_engine
from slime_search.ops.doctor import engine
from slime_search.ops.doctor.examine import carry_out
from slime_search.ops.doctor.results import Result, Status
from tests.ops.doctor.doctor_site import Site, statuses, the
from tests.support.loopback import json_response, says, status
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_router import ScriptedRouter

PASSED = dict.fromkeys(("engine", "/generate", "routing replay", "tool calling"), Status.PASS)


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
    assert statuses(found) == PASSED | {"routing replay": Status.SKIP}
    assert "returned 4 ids with log-probabilities" in the(found, "/generate").found
    assert the(found, "tool calling").found.startswith("input_ids")


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
        assert (the(found, "/generate").status, the(found, "tool calling").status) == (Status.WARN, Status.WARN)
        assert the(found, "tool calling").found.startswith("messages")
        for told in ("input_ids", "generate"):
            site.change(SLIME_SEARCH_CHAT__TOKEN_IN=told)
            assert the(look_now(site, server.url), "tool calling").status is Status.FAIL
    with ScriptedChat(qwen, lambda context: "yes", takes_ids=False, style="text") as server:
        found = look_now(site, server.url)
        assert the(found, "tool calling").status is Status.FAIL


def test_a_router_is_told_from_an_engine(site: Site, qwen: Any) -> None:
    site.for_tools()
    with ScriptedChat(qwen, lambda context: "yes", generates=True) as server, ScriptedRouter(server) as router:
        server.context_length = 4096
        found = look_now(site, router.url)
        assert statuses(found) == PASSED | {"engine": Status.WARN, "routing replay": Status.WARN}
        assert f"the router at {router.url}, before 1 × SGLang 0.5.23" in the(found, "engine").found
        assert server.url in the(found, "engine").found and "4094 tokens" in the(found, "engine").found
        assert the(found, "tool calling").found.startswith("generate: chats lose their token ids here")
        assert "the router drops return_routed_experts" in the(found, "routing replay").found
        server.context_length = 100_000
        found = look_now(site, server.url)
        assert statuses(found) == PASSED
        assert the(found, "tool calling").found.startswith("input_ids")


def test_a_router_without_engines(site: Site, qwen: Any) -> None:
    class Lonely(ScriptedRouter):
        async def _workers(self, _request: web.Request) -> web.Response:
            return json_response({"workers": [], "total": 0})

    with ScriptedEngine(qwen, lambda context: "yes") as server, Lonely(server) as router:
        found = look_now(site, router.url)
    assert "without an engine behind it" in the(found, "engine").found
    assert [result.status for result in found] == [Status.FAIL, Status.SKIP, Status.SKIP, Status.SKIP]


def test_tags_need_generate_alone(site: Site, qwen: Any) -> None:
    with ScriptedEngine(qwen, lambda context: "yes") as server:
        assert statuses(look_now(site, server.url)) == PASSED | {"engine": Status.WARN, "tool calling": Status.SKIP}
        server.script = lambda exchange: status(500)
        assert the(look_now(site, server.url), "/generate").status is Status.FAIL


def test_no_engine(site: Site) -> None:
    assert statuses(look_now(site, None)) == {"engine": Status.SKIP}
    (found, *others) = look_now(site, f"http://127.0.0.1:{site.port}")
    assert (found.name, found.status) == ("engine", Status.FAIL)
    assert {result.status for result in others} == {Status.SKIP}


def test_what_answers_and_is_no_engine_is_said(site: Site) -> None:
    with says(b"SSH-2.0-OpenSSH_9.6\r\n") as url:
        found = the(look_now(site, url), "engine")
        assert (found.status, "no HTTP server ('SSH-2.0-OpenSSH_9.6" in found.found) == (Status.FAIL, True)
    with says(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>hi</html>") as url:
        found = the(look_now(site, url), "engine")
        assert (found.status, "tells nothing that an engine tells" in found.found) == (Status.WARN, True)
