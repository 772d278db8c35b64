"""Aborting, pausing and looking at the engine while it runs."""

import asyncio
from typing import Any

import aiohttp
import pytest
import torch

from slime_search.local.engine.model import load_model
from slime_search.local.engine.server import running_engine
from tests.local.engine.engine_serving import Client, TinyModel, serving

LONG = {"max_new_tokens": 500, "ignore_eos": True}


def _start(client: Client, **settings: Any) -> asyncio.Task[dict]:
    return asyncio.create_task(client.generate([5, 6], **(LONG | settings)))


def _assert_aborted(answer: dict, tiny: TinyModel) -> int:
    """Checks that the partial completion is whole in itself; its length."""
    meta = answer["meta_info"]
    assert meta["finish_reason"]["type"] == "abort" and meta["finish_reason"]["message"]
    output = answer["output_ids"]
    assert len(output) == meta["completion_tokens"] == len(meta["output_token_logprobs"]) < LONG["max_new_tokens"]
    if output:
        expected = tiny.log_probs([5, 6], output).gather(1, torch.tensor(output)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor([row[0] for row in meta["output_token_logprobs"]]), expected)
    return len(output)


async def test_one_request_is_aborted_and_the_others_go_on(client: Client, qwen2: TinyModel) -> None:
    tasks = {rid: _start(client, rid=rid, max_new_tokens=120) for rid in ("a", "ab", "b")}
    await client.until_running(3)
    assert (await client.call("/abort_request", {"rid": "a"}))[0] == 200
    _assert_aborted(await tasks["a"], qwen2)
    assert (await client.call("/abort_request", {"rid": "nobody"}))[0] == 200
    assert [len((await tasks[rid])["output_ids"]) for rid in ("ab", "b")] == [120, 120]


async def test_all_are_aborted_also_those_that_wait(qwen2: TinyModel) -> None:
    async with serving(qwen2, max_running_requests=2) as client:
        tasks = [_start(client) for _ in range(5)]
        await client.until_running(2)
        await client.call("/abort_request", {"abort_all": True})
        loads = (await client.get("/v1/loads?include=core"))["loads"]
        assert [(load["num_running_reqs"], load["num_waiting_reqs"]) for load in loads] == [(0, 0)]
        sizes = [_assert_aborted(answer, qwen2) for answer in await asyncio.gather(*tasks)]
        assert sorted(map(bool, sizes)) == [False, False, False, True, True]


async def test_a_client_that_leaves_aborts_its_request(client: Client) -> None:
    leaving, staying = _start(client, rid="gone"), _start(client, max_new_tokens=200)
    await client.until_running(2)
    leaving.cancel()
    await client.until_running(1)
    await client.generate([5], rid="gone", max_new_tokens=1)  # refused if it were still there
    assert len((await staying)["output_ids"]) == 200


async def test_a_pause_in_place_holds_the_requests_where_they_are(client: Client, qwen2: TinyModel) -> None:
    task = _start(client, max_new_tokens=150, sampling_seed=1)
    await client.until_running(1)
    status, answer = await client.call("/pause_generation", {"mode": "in_place"})
    assert (status, answer["status"]) == (200, "ok")
    late = _start(client, max_new_tokens=5)
    done, _ = await asyncio.wait({task, late}, timeout=0.5)
    assert not done
    load = (await client.get("/v1/loads"))["loads"][0]
    assert (load["num_running_reqs"], load["num_waiting_reqs"]) == (1, 1)
    assert (await client.call("/flush_cache"))[0] == 400
    await client.call("/continue_generation", {})
    held = await task
    assert len((await late)["output_ids"]) == 5
    free = await client.generate([5, 6], max_new_tokens=150, sampling_seed=1, ignore_eos=True)
    assert held["output_ids"] == free["output_ids"]


async def test_a_pause_aborts_unless_told_otherwise(client: Client, qwen2: TinyModel) -> None:
    task = _start(client)
    await client.until_running(1)
    assert (await client.call("/pause_generation", {}))[0] == 200
    _assert_aborted(await task, qwen2)
    late = _start(client, max_new_tokens=5)
    assert (await client.call("/flush_cache", method="GET"))[0] == 200
    await client.call("/continue_generation", {})
    assert len((await late)["output_ids"]) == 5


async def test_a_paused_request_can_be_aborted(client: Client, qwen2: TinyModel) -> None:
    task = _start(client, rid="x")
    await client.until_running(1)
    await client.call("/pause_generation", {"mode": "in_place"})
    await client.call("/abort_request", {"rid": "x"})
    _assert_aborted(await task, qwen2)


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/pause_generation", {"mode": "retract"}, "retract"),
        ("/abort_request", {}, "rid"),
        ("/abort_request", {"rid": ""}, "rid"),
        ("/update_weights_from_disk", {}, "model_path"),
    ],
)
async def test_bad_orders_are_refused_by_name(client: Client, path: str, body: dict, word: str) -> None:
    status, answer = await client.call(path, body)
    assert status == 400 and word in answer["error"]["message"]


async def test_what_the_engine_tells_of_itself(client: Client, qwen2: TinyModel) -> None:
    expected = {
        "model_path": str(qwen2.folder),
        "tokenizer_path": str(qwen2.folder),
        "is_generation": True,
        "weight_version": "default",
    }
    assert await client.get("/model_info") == await client.get("/get_model_info") == expected
    assert await client.get("/health") == await client.get("/health_generate") == ""
    assert [worker["url"] for worker in (await client.get("/workers"))["workers"]] == [client.url]


async def test_a_closing_server_answers_with_what_it_has(qwen2: TinyModel) -> None:
    async with aiohttp.ClientSession() as session:
        async with running_engine(qwen2.folder, load_model(qwen2.folder), qwen2.tokenizer) as url:
            client = Client(url, session)
            task = _start(client)
            await client.until_running(1)
        assert _assert_aborted(await task, qwen2) > 0
