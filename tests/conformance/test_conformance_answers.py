"""The shapes of answers, what becomes of tool calls, and refusals."""

import re
from typing import Any

import pytest

from tests.conformance.conformance_client import GREEDY, MESSAGES, Client
from tests.conformance.engine_processes import CONTEXT, Server
from tests.conformance.lessons import LESSONS, SEARCH, answer, question

_META_INFO = {
    "id": "str",
    "finish_reason": {"type": "str", "length": "int"},
    "prompt_tokens": "int",
    "completion_tokens": "int",
    "reasoning_tokens": "int",
    "cached_tokens": "int",
    "cached_tokens_details": "NoneType",
    "num_retractions": "int",
    "dp_rank": "NoneType",
    "weight_version": "str",
    "weight_versions": [{"version": "str", "start": "int", "end": "int"}],
    "e2e_latency": "float",
    "response_sent_to_client_ts": "float",
}
_LOGPROBS_META = {
    "input_token_logprobs": [],
    "output_token_logprobs": [["float", "int", "str"]],
    "output_token_logprobs_length": "int",
}
_CHOICE = {
    "index": "int",
    "message": {"role": "str", "content": "str", "reasoning_content": "NoneType"},
    "logprobs": "NoneType",
    "finish_reason": "str",
    "matched_stop": "NoneType",
}
_LOGPROBS = {"content": [{"token": "str", "bytes": ["int"], "logprob": "float", "top_logprobs": []}]}
_CHAT = {
    "id": "str",
    "object": "str",
    "created": "int",
    "model": "str",
    "choices": [_CHOICE],
    "usage": {
        "prompt_tokens": "int",
        "completion_tokens": "int",
        "total_tokens": "int",
        "prompt_tokens_details": "NoneType",
        "reasoning_tokens": "int",
        "completion_tokens_details": "NoneType",
    },
    "metadata": {"weight_version": "str", "weight_versions": [{"version": "str", "start": "int", "end": "int"}]},
}


def shape(value: Any) -> Any:
    """Names of types in place of values. Of a list, whose elements must be alike, only the first is shown; a row, which
    starts with a float, is shown whole."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if not isinstance(value, list):
        return type(value).__name__
    shapes = [shape(item) for item in value]
    if value and isinstance(value[0], float):
        return shapes
    assert all(other == shapes[0] for other in shapes)
    return shapes[:1]


@pytest.mark.parametrize(
    ("fields", "in_choice"),
    [
        ({}, {}),
        ({"return_prompt_token_ids": True}, {"prompt_token_ids": ["int"]}),
        ({"return_token_ids": True}, {"prompt_token_ids": ["int"], "response_token_ids": ["int"]}),
        ({"return_meta_info": True}, {"meta_info": _META_INFO}),
        ({"logprobs": True}, {"logprobs": _LOGPROBS}),
        (
            {"logprobs": True, "return_meta_info": True},
            {"logprobs": _LOGPROBS, "meta_info": _META_INFO | _LOGPROBS_META},
        ),
    ],
)
async def test_a_chats_answer_has_what_was_asked_for(
    client: Client, fields: dict[str, Any], in_choice: dict[str, Any]
) -> None:
    body = {"messages": MESSAGES, "max_tokens": 4, "ignore_eos": True, "model": "any", "rid": "of-a-chat", **fields}
    status, said = await client.call("/v1/chat/completions", body)
    assert status == 200, said
    assert shape(said) == _CHAT | {"choices": [_CHOICE | in_choice]}
    assert (said["id"], said["object"], said["model"]) == ("of-a-chat", "chat.completion", "any")
    assert said["choices"][0]["message"]["role"] == "assistant"


@pytest.mark.parametrize("return_logprob", [False, True])
async def test_generates_answer(client: Client, return_logprob: bool) -> None:
    body = {
        "input_ids": [5, 6],
        "sampling_params": {"max_new_tokens": 4, "ignore_eos": True},
        "return_logprob": return_logprob,
        "rid": "of-generate",
    }
    status, said = await client.call("/generate", body)
    assert status == 200, said
    rows = {"output_token_logprobs": [["float", "int", "NoneType"]]}
    expected = _META_INFO | (_LOGPROBS_META | rows if return_logprob else {})
    assert shape(said) == {"text": "str", "output_ids": ["int"], "meta_info": expected}
    assert said["meta_info"]["id"] == "of-generate"


async def test_token_bytes_are_those_of_parts_of_characters(client: Client, tokenizer: Any) -> None:
    choice = await client.choice(input_ids=question(tokenizer, "one"), max_tokens=128, **GREEDY)
    content = choice["logprobs"]["content"]
    expected = LESSONS["one"] + tokenizer.eos_token
    assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == expected
    assert [entry["token"] for entry in content] == [tokenizer.decode([id]) for id in choice["response_token_ids"]]


@pytest.mark.parametrize(
    ("word", "content", "calls"),
    [
        ("plain", LESSONS["plain"], None),
        ("one", "<think>Look.</think> I search.", [("search", '{"query": "café"}')]),
        ("two", "", [("search", '{"query": "a"}'), ("search", '{"query": "b"}')]),
        ("broken", "Then", None),
        ("open", "Then", None),
        ("other", "Or", None),
        ("number", LESSONS["number"], None),
        ("narrow", LESSONS["narrow"], None),
    ],
)
async def test_tool_calls_are_read(
    client: Client, tokenizer: Any, word: str, content: str, calls: list[tuple[str, str]] | None
) -> None:
    choice = await client.choice(input_ids=question(tokenizer, word), tools=[SEARCH], max_tokens=128, **GREEDY)
    assert choice["response_token_ids"] == answer(tokenizer, word)
    message = choice["message"]
    assert message["content"] == content
    matched = tokenizer.eos_token_id if calls is None else None
    kind = "stop" if calls is None else "tool_calls"
    assert (choice["finish_reason"], choice["matched_stop"]) == (kind, matched)
    assert choice["meta_info"]["finish_reason"] == {"type": kind, "matched": matched}
    if calls is None:
        assert "tool_calls" not in message
    else:
        functions = [{"name": name, "arguments": arguments} for name, arguments in calls]
        assert [call["function"] for call in message["tool_calls"]] == functions
        for index, call in enumerate(message["tool_calls"]):
            assert call.keys() == {"id", "index", "type", "function"}
            assert (call["index"], call["type"]) == (index, "function")
            assert re.fullmatch("call_[0-9a-f]{24}", call["id"])


@pytest.mark.parametrize("fields", [{}, {"tools": [SEARCH], "tool_choice": "none"}])
async def test_without_tools_a_call_is_text(client: Client, tokenizer: Any, fields: dict[str, Any]) -> None:
    choice = await client.choice(input_ids=question(tokenizer, "one"), max_tokens=128, **GREEDY, **fields)
    assert choice["message"] == {"role": "assistant", "content": LESSONS["one"], "reasoning_content": None}
    assert choice["finish_reason"] == "stop"


async def test_a_call_cut_short_by_the_length_ends_by_length(client: Client, tokenizer: Any) -> None:
    ids = answer(tokenizer, "two")
    first = ids.index(tokenizer.convert_tokens_to_ids("</tool_call>")) + 1
    choice = await client.choice(input_ids=question(tokenizer, "two"), tools=[SEARCH], max_tokens=first, **GREEDY)
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["tool_calls"]) == 1


@pytest.mark.parametrize("special", [False, True])
async def test_tools_keep_special_tokens_in_the_text(client: Client, tokenizer: Any, special: bool) -> None:
    fields = {"input_ids": question(tokenizer, "plain"), "max_tokens": 64, "no_stop_trim": True, **GREEDY}
    choice = await client.choice(**fields, tools=[SEARCH] if special else [])
    assert choice["message"]["content"] == LESSONS["plain"] + (tokenizer.eos_token if special else "")


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": None},
        {"messages": [{"role": "robot", "content": "Hi"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, *MESSAGES]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "5"}}]}, *MESSAGES]},
        {"tools": [{"type": "function", "function": {"description": "nameless"}}]},
        {"tool_choice": "required"},
        {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
        {"input_ids": []},
        {"input_ids": [5] * (CONTEXT + 1)},
        {"max_tokens": CONTEXT},
        {"max_tokens": "many"},
        {"temperature": -1},
        {"top_p": 0},
        {"stream": True},
    ],
)
async def test_a_bad_chat_is_refused_in_one_shape(client: Client, fields: dict[str, Any]) -> None:
    body = {"messages": MESSAGES, "max_tokens": 4, "return_token_ids": True, **fields}
    status, said = await client.call("/v1/chat/completions", {k: v for k, v in body.items() if v is not None})
    assert status == 400, said
    assert shape(said) == {"object": "str", "message": "str", "type": "str", "param": "NoneType", "code": "int"}
    assert (said["object"], said["code"]) == ("error", 400)


async def test_a_bad_generate_is_refused(client: Client) -> None:
    status, said = await client.call("/generate", {"input_ids": [5], "sampling_params": {"top_p": 0}})
    assert status == 400
    assert "top_p" in said["error"]["message"]


async def test_messages_that_input_ids_replace_are_not_rendered(client: Client) -> None:
    call = {"function": {"name": "f", "arguments": "{"}}
    messages = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert (await client.choice(messages=messages, input_ids=[5, 6], max_tokens=1))["prompt_token_ids"] == [5, 6]


async def test_the_models_are_listed(client: Client, server: Server) -> None:
    (card,) = (await client.get("/v1/models"))["data"]
    assert isinstance(card.pop("created"), int)
    name = str(server.model_path)
    expected = {"id": name, "object": "model", "owned_by": "sglang", "root": name, "parent": None}
    assert card == expected | {"max_model_len": CONTEXT}


async def test_the_engine_tells_what_it_serves(client: Client, server: Server) -> None:
    info = await client.get("/model_info")
    assert info["model_path"] == info["tokenizer_path"] == str(server.model_path)
    assert (info["is_generation"], info["weight_version"]) == (True, "default")
