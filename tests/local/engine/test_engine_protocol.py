"""Requests that are refused, and in which words."""

import asyncio
from typing import Any

import pytest

from tests.local.engine.engine_serving import CONTEXT, Client


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input_ids": [[5], [6]]}, ["input_ids", "one prompt"]),
        ({"text": ["a", "b"]}, ["text", "one prompt"]),
        ({"input_ids": [5, "6"]}, ["input_ids.1", "'6'"]),
        ({"input_ids": [5, True]}, ["input_ids.1", "True"]),
        ({"input_ids": []}, ["input_ids", "empty"]),
        ({"input_ids": [5, 10**6]}, ["input_ids", "vocabulary"]),
        ({"input_ids": [-1]}, ["input_ids", "vocabulary"]),
        ({"input_ids": [5], "text": "a"}, ["input_ids or text"]),
        ({}, ["input_ids or text"]),
        ([], ["expected are keys with values"]),
        ({"input_ids": [5], "stream": True}, ["stream", "True"]),
        ({"input_ids": [5], "logprob_start_len": 1, "return_logprob": True}, ["logprob_start_len", "1"]),
        ({"input_ids": [5], "logprob_start_len": -2}, ["logprob_start_len", "-2"]),
        ({"input_ids": [5], "return_logprob": "yes"}, ["return_logprob", "'yes'"]),
        ({"input_ids": [5], "rid": 7}, ["rid", "7"]),
        ({"input_ids": [5], "sampling_params": [{}]}, ["sampling_params"]),
    ],
)
async def test_a_bad_body_is_refused_by_name(client: Client, body: Any, words: list[str]) -> None:
    status, answer = await client.call("/generate", body)
    assert status == 400
    assert answer["error"]["type"] == "BadRequestError" and answer["error"]["code"] == 400
    assert all(word in answer["error"]["message"] for word in words), answer


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"max_tokens": 5}, ["sampling_params.max_tokens", "no such parameter"]),
        ({"temperature": -1}, ["sampling_params.temperature", "-1"]),
        ({"temperature": "hot"}, ["sampling_params.temperature", "'hot'"]),
        ({"top_p": 0}, ["sampling_params.top_p", "0"]),
        ({"top_p": 1.5}, ["sampling_params.top_p", "1.5"]),
        ({"top_k": 0}, ["top_k", "0"]),
        ({"top_k": -2}, ["top_k", "-2"]),
        ({"max_new_tokens": -1}, ["sampling_params.max_new_tokens", "-1"]),
        ({"max_new_tokens": 2.5}, ["sampling_params.max_new_tokens", "2.5"]),
        ({"min_new_tokens": 3, "max_new_tokens": 2}, ["min_new_tokens", "3", "2"]),
        ({"stop": [""]}, ["sampling_params.stop.0", "''"]),
        ({"stop": 5}, ["sampling_params.stop", "5"]),
        ({"stop": ["x"] * 33}, ["sampling_params.stop", "32"]),
        ({"stop_token_ids": [10**6]}, ["stop_token_ids", "vocabulary"]),
        ({"sampling_seed": 2**63}, ["sampling_params.sampling_seed"]),
        ({"repetition_penalty": 1.1}, ["repetition_penalty", "1.1", "leave it out"]),
        ({"frequency_penalty": 0.5}, ["frequency_penalty", "0.5"]),
        ({"presence_penalty": 0.5}, ["presence_penalty", "0.5"]),
        ({"min_p": 0.1}, ["min_p", "0.1"]),
        ({"n": 2}, ["n = 2"]),
        ({"regex": "a+"}, ["regex", "a+"]),
        ({"json_schema": "{}"}, ["json_schema"]),
        ({"logit_bias": {"5": 1.0}}, ["logit_bias"]),
        ({"max_new_tokens": CONTEXT}, [f"{CONTEXT} tokens", "1 tokens of input"]),
    ],
)
async def test_a_bad_sampling_parameter_is_refused_by_name(
    client: Client, params: dict[str, Any], words: list[str]
) -> None:
    status, answer = await client.call("/generate", {"input_ids": [5], "sampling_params": params})
    assert status == 400
    assert all(word in answer["error"]["message"] for word in words), answer


async def test_what_slime_sends_is_taken(client: Client) -> None:
    params = {
        "temperature": 1.0,
        "top_p": 0.9,
        "top_k": -1,
        "max_new_tokens": 4,
        "stop": None,
        "stop_token_ids": None,
        "skip_special_tokens": False,
        "no_stop_trim": True,
        "spaces_between_special_tokens": False,
        "custom_params": {"return_top_p_token_ids": True},
    }
    neutral = {"min_p": 0.0, "frequency_penalty": 0, "repetition_penalty": 1.0, "n": 1, "regex": None, "logit_bias": {}}
    body = {"input_ids": [5], "sampling_params": params | neutral, "return_logprob": True, "image_data": None}
    status, answer = await client.call("/generate", body | {"stream": False, "of_another_release": 1})
    assert status == 200, answer


async def test_a_prompt_beyond_the_context_is_told_both_numbers(client: Client) -> None:
    status, answer = await client.call("/generate", {"input_ids": [5] * (CONTEXT + 1)})
    assert status == 400
    assert answer["error"]["message"] == (
        f"The input ({CONTEXT + 1} tokens) is longer than the model's context length ({CONTEXT} tokens)."
    )


async def test_a_request_id_in_use_is_refused(client: Client) -> None:
    long = asyncio.create_task(client.generate([5], rid="same", max_new_tokens=500, ignore_eos=True))
    await client.until_running(1)
    status, answer = await client.call("/generate", {"input_ids": [5], "rid": "same"})
    assert status == 400 and "Duplicate request ID detected: same" in answer["error"]["message"]
    assert len((await long)["output_ids"]) == 500


async def test_errors_of_http_have_the_same_shape(client: Client) -> None:
    for path, method, expected in (("/nowhere", "GET", 404), ("/abort_request", "GET", 405)):
        status, answer = await client.call(path, method=method)
        assert status == expected
        assert answer["error"]["code"] == expected and path in answer["error"]["message"]
    async with client.session.post(client.url + "/generate", data=b'{"input_ids": [5') as response:
        assert response.status == 400
        assert "JSON" in (await response.json())["error"]["message"]
