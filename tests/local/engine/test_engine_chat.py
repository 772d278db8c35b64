"""``/v1/chat/completions`` where this engine is stricter than SGLang; the rest is in ``tests/conformance``."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from slime_search.local.engine.chat import TokenTexts
from slime_search.local.engine.chat_prompt import parse_tool_calls
from slime_search.local.engine.model import load_model
from slime_search.local.engine.server import running_engine
from tests.local.engine.engine_serving import CONTEXT, EOS, Client, TinyModel, serving
from tests.support.tokenizers import TOOLS_TEMPLATE

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Who?"}]
TOOL = {"type": "function", "function": {"name": "search"}}


async def _chat(client: Client, **fields: Any) -> dict[str, Any]:
    body = {"messages": MESSAGES, "input_ids": [5, 6], "logprobs": True, "return_token_ids": True} | fields
    status, answer = await client.call(CHAT, body)
    assert status == 200, answer
    return answer


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": None}, ["messages", "missing"]),
        ({"messages": []}, ["messages", "at least 1"]),
        ({"messages": "Hi"}, ["messages", "'Hi'"]),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, ["messages.0.role", "'robot'"]),
        ({"messages": [{"role": "user"}]}, ["messages.0", "content", "None"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
            ["messages.0.content", "a text"],
        ),
        ({"messages": [{"role": "system", "content": "", "tools": [TOOL]}]}, ["messages.0.tools"]),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": 5}]}]},
            ["messages.0.tool_calls.0.function", "5"],
        ),
        ({"tools": [{"type": "function"}]}, ["tools.0.function", "missing"]),
        ({"tools": [{"function": {"name": 5}}]}, ["tools.0.function", "name", "5"]),
        ({"tools": [{"function": {"name": "f", "strict": True}}]}, ["tools.0.function", "strict", "leave it out"]),
        ({"tools": [TOOL], "tool_choice": "required"}, ["tool_choice", "'required'"]),
        ({"tools": [TOOL], "tool_choice": TOOL}, ["tool_choice", "search"]),
        ({"stream": True}, ["stream", "True"]),
        ({"n": 2}, ["n = 2"]),
        ({"top_logprobs": 3}, ["top_logprobs = 3"]),
        ({"response_format": {"type": "json_object"}}, ["response_format", "json_object"]),
        ({"reasoning_effort": "high"}, ["reasoning_effort", "high"]),
        ({"continue_final_message": True}, ["continue_final_message"]),
        ({"chat_template_kwargs": {"chat_template": "x"}}, ["chat_template_kwargs", "chat_template"]),
        ({"max_tokens": -1}, ["max_tokens", "-1"]),
        ({"max_completion_tokens": 2.5}, ["max_completion_tokens", "2.5"]),
        ({"min_tokens": -1}, ["min_tokens", "-1"]),
        ({"seed": 2**63}, ["seed"]),
        ({"temperature": "hot"}, ["temperature", "'hot'"]),
        ({"top_p": 1.5}, ["top_p", "1.5"]),
        ({"top_k": 0}, ["top_k", "0"]),
        ({"min_p": 0.1}, ["min_p", "0.1"]),
        ({"stop": [""]}, ["stop.0", "''"]),
        ({"repetition_penalty": 1.1}, ["repetition_penalty", "1.1"]),
        ({"logprobs": 1}, ["logprobs", "1"]),
        ({"return_token_ids": "yes"}, ["return_token_ids", "'yes'"]),
        ({"rid": ["a"]}, ["rid", "['a']"]),
        ({"input_ids": []}, ["input_ids", "empty"]),
        ({"input_ids": ["5"]}, ["input_ids.0", "'5'"]),
        ({"input_ids": [10**6]}, ["input_ids", "vocabulary"]),
        ({"max_tokens": CONTEXT}, [f"{CONTEXT} tokens"]),
        ({"input_ids": None}, ["messages", "chat template", "input_ids"]),
    ],
)
async def test_a_bad_chat_is_refused_by_name(client: Client, fields: dict[str, Any], words: list[str]) -> None:
    status, answer = await client.call(CHAT, {"messages": MESSAGES, "input_ids": [5]} | fields)
    assert status == answer["code"] == 400
    assert answer["type"] == "BadRequestError"
    assert all(word in answer["message"] for word in words), answer


async def test_a_body_that_is_no_object_is_refused(client: Client) -> None:
    status, answer = await client.call(CHAT, [])
    assert status == 400 and "expected are keys with values" in answer["message"]


async def test_what_asks_for_nothing_is_taken(client: Client) -> None:
    neutral = {"n": 1, "stream": False, "top_logprobs": 0, "response_format": {"type": "text"}, "min_p": 0.0}
    nulls = dict.fromkeys(("tools", "tool_choice", "stop", "seed", "temperature", "chat_template_kwargs", "user"))
    answer = await _chat(client, max_tokens=2, ignore_eos=True, of_another_release=1, **neutral, **nulls)
    assert len(answer["choices"][0]["response_token_ids"]) == 2


async def test_a_template_that_fails_is_told_in_its_words(qwen2: TinyModel) -> None:
    tiny = TinyModel(qwen2.folder, qwen2.tokenizer.__class__.from_pretrained(qwen2.folder), qwen2.reference)
    tiny.tokenizer.chat_template = "{{ raise_exception('no ' + messages[0].role) }}"
    async with serving(tiny) as client:
        status, answer = await client.call(CHAT, {"messages": MESSAGES})
        assert status == 400 and answer["message"].endswith("no user")
        status, answer = await client.call(CHAT, {"messages": MESSAGES, "chat_template_kwargs": {"tokenize": True}})
        assert status == 400 and "tokenize" in answer["message"]


async def test_arguments_in_the_history_must_be_an_object(qwen2: TinyModel) -> None:
    tiny = TinyModel(qwen2.folder, qwen2.tokenizer.__class__.from_pretrained(qwen2.folder), qwen2.reference)
    tiny.tokenizer.chat_template = TOOLS_TEMPLATE
    async with serving(tiny) as client:
        for arguments in ("{", "5"):
            call = {"function": {"name": "f", "arguments": arguments}}
            messages = [*MESSAGES, {"role": "assistant", "tool_calls": [call]}, *MESSAGES]
            status, answer = await client.call(CHAT, {"messages": messages})
            assert status == 400
            assert "messages.1.tool_calls.0.function.arguments" in answer["message"] and arguments in answer["message"]


async def test_what_the_model_asks_for_in_vain_is_told_and_overruled(qwen2: TinyModel) -> None:
    model = load_model(qwen2.folder)
    model.generation_config.repetition_penalty = 1.1
    async with running_engine(qwen2.folder, model, qwen2.tokenizer) as url, aiohttp.ClientSession() as session:
        client = Client(url, session)
        status, answer = await client.call(CHAT, {"messages": MESSAGES, "input_ids": [5]})
        assert status == 400
        assert all(word in answer["message"] for word in ("generation_config.json", "repetition_penalty", "1.1"))
        await _chat(client, max_tokens=1, repetition_penalty=1.0)
        await client.generate([5], max_new_tokens=1)


async def test_a_seeded_chat_draws_the_same_again(client: Client) -> None:
    fields = {"max_tokens": 12, "ignore_eos": True, "seed": 3}
    first, again, other = [
        (await _chat(client, **(fields | changed)))["choices"][0]["response_token_ids"]
        for changed in ({}, {}, {"seed": 4})
    ]
    assert first == again != other


async def test_a_client_that_leaves_aborts_its_chat(client: Client) -> None:
    leaving = asyncio.create_task(_chat(client, max_tokens=500, ignore_eos=True, rid="gone"))
    await client.until_running(1)
    leaving.cancel()
    await client.until_running(0)
    await _chat(client, max_tokens=1, rid="gone")


async def test_a_chat_is_told_the_version_of_its_weights(client: Client, other_qwen2: TinyModel) -> None:
    update = {"model_path": str(other_qwen2.folder), "weight_version": "7"}
    assert (await client.call("/update_weights_from_disk", update))[0] == 200
    answer = await _chat(client, max_tokens=2, ignore_eos=True)
    spans = [{"version": "7", "start": 0, "end": 2}]
    assert answer["metadata"] == {"weight_version": "7", "weight_versions": spans}


def _call(name: str, arguments: object) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@given(
    before=st.text().filter(lambda text: "<tool_call>" not in text),
    calls=st.lists(
        st.tuples(st.sampled_from(["search", "fly"]), st.dictionaries(st.text(), st.text() | st.integers(), min_size=1))
    ),
)
def test_calls_of_known_tools_are_read_in_order(before: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    text = before + "".join(_call(*call) for call in calls)
    content, found = parse_tool_calls(text, {"search"})
    assert content == (before.strip() if calls else before)
    read = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]
    assert read == [call for call in calls if call[0] == "search"]
    assert [call["index"] for call in found] == list(range(len(found)))


_PIECES = ["<tool_call>\n", "\n</tool_call>", "{", "}", "[", "]", '"name"', ":", '"a"', ",", "1", " "]


@given(st.lists(st.sampled_from(_PIECES)).map("".join))
def test_no_text_breaks_the_reading_of_calls(text: str) -> None:
    content, calls = parse_tool_calls(text, {"a"})
    assert text.lstrip().startswith(content.lstrip())
    assert all(call["function"]["name"] == "a" for call in calls)


def test_a_call_nested_beyond_measure_is_text() -> None:
    text = f"<tool_call>\n{'[' * 100_000}\n</tool_call>"
    assert parse_tool_calls(text, {"search"}) == (text, [])


def test_bytes_of_parts_of_characters(qwen2: TinyModel) -> None:
    texts = TokenTexts(qwen2.tokenizer)
    for text in ("½ 橋!", "Naïve\n\tcafé", f"a{EOS}"):
        ids = qwen2.tokenizer.encode(text)
        assert bytes(byte for token in ids for byte in texts.bytes(token)).decode() == text


def test_a_tokenizer_that_is_not_byte_level_shows_its_text() -> None:
    core = Tokenizer(models.WordLevel({"é": 0, "a": 1}, unk_token="a"))
    core.decoder = decoders.Metaspace()
    texts = TokenTexts(PreTrainedTokenizerFast(tokenizer_object=core))
    assert (texts.text(0), texts.bytes(0)) == ("é", (0xC3, 0xA9))
