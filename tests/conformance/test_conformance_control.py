"""Orders to a running engine, as a trainer gives them."""

import asyncio

from tests.conformance.conformance_client import GREEDY, MESSAGES, PROMPT, Client, Reference, assert_close, log_probs
from tests.conformance.engine_processes import MAX_RUNNING, Server


async def test_an_aborted_chat_keeps_its_tokens(client: Client, reference: Reference) -> None:
    running = asyncio.create_task(
        client.chat(input_ids=PROMPT, max_tokens=4000, ignore_eos=True, rid="to-abort", **GREEDY)
    )
    await client.until_running(1)
    status, _ = await client.call("/abort_request", {"rid": "to-abort"})
    assert status == 200
    said = await running
    (choice,) = said["choices"]
    ids = choice["response_token_ids"]
    assert (said["id"], choice["finish_reason"], choice["matched_stop"]) == ("to-abort", "abort", None)
    assert choice["meta_info"]["finish_reason"]["type"] == "abort"
    assert 0 < len(ids) < 4000
    assert said["usage"]["completion_tokens"] == len(ids)
    assert_close(log_probs(choice), reference.log_probs(PROMPT, ids))


async def test_a_chat_aborted_in_the_queue_has_no_tokens_not_even_of_its_prompt(client: Client) -> None:
    fields = {"input_ids": PROMPT, "max_tokens": 500, "ignore_eos": True, **GREEDY}
    tasks = [asyncio.create_task(client.chat(**fields, rid=f"queued-{i}")) for i in range(MAX_RUNNING + 2)]
    await client.until_running(MAX_RUNNING)
    await client.call("/abort_request", {"abort_all": True})
    answers = [answer for answer in await asyncio.gather(*tasks) if not answer["choices"][0]["response_token_ids"]]
    assert len(answers) == 2
    for answer in answers:
        (choice,) = answer["choices"]
        assert (choice["finish_reason"], choice["logprobs"]) == ("abort", {"content": []})
        assert choice["prompt_token_ids"] == PROMPT
        assert choice["meta_info"]["finish_reason"] == {"type": "abort", "message": "Abort in waiting queue"}
        assert "prompt_tokens" not in choice["meta_info"]
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["completion_tokens"] == 0


async def test_a_pause_in_place_changes_nothing(client: Client) -> None:
    fields = {"input_ids": PROMPT, "max_tokens": 200, "ignore_eos": True, **GREEDY}
    expected = (await client.choice(**fields))["response_token_ids"]
    running = asyncio.create_task(client.choice(**fields))
    await client.until_running(1)
    status, _ = await client.call("/pause_generation", {"mode": "in_place"})
    assert status == 200
    done, _ = await asyncio.wait({running}, timeout=0.5)
    assert not done
    status, _ = await client.call("/continue_generation", {})
    assert status == 200
    assert (await running)["response_token_ids"] == expected


async def test_new_weights_are_told_by_their_version(client: Client, server: Server) -> None:
    update = {"model_path": str(server.model_path), "flush_cache": True}
    try:
        status, said = await client.call("/update_weights_from_disk", update | {"weight_version": "step-7"})
        assert status == 200 and said["success"] is True, said
        answer = await client.chat(messages=MESSAGES, max_tokens=3, ignore_eos=True)
        spans = [{"version": "step-7", "start": 0, "end": 3}]
        assert answer["metadata"] == {"weight_version": "step-7", "weight_versions": spans}
        meta = answer["choices"][0]["meta_info"]
        assert (meta["weight_version"], meta["weight_versions"]) == ("step-7", spans)
        assert (await client.get("/model_info"))["weight_version"] == "step-7"
    finally:
        await client.call("/update_weights_from_disk", update | {"weight_version": "default"})


async def test_weights_that_are_not_there_change_nothing(client: Client, server: Server) -> None:
    status, said = await client.call("/update_weights_from_disk", {"model_path": str(server.model_path / "nowhere")})
    assert status == 400 and said["success"] is False and said["message"]
    assert (await client.get("/model_info"))["weight_version"] == "default"
    assert len((await client.choice(input_ids=PROMPT, max_tokens=3, ignore_eos=True))["response_token_ids"]) == 3
