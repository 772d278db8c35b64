"""The prompt that an engine makes of messages and tools."""

from typing import Any

import pytest

from tests.conformance.conformance_client import MESSAGES, Client
from tests.conformance.lessons import SEARCH

_USER = "<|im_start|>user\nWho wrote the tragedy?<|im_end|>\n"
_NEXT = "<|im_start|>assistant\n"
_TOOLS = (
    'Tools:\n{"type": "function", "function": {"name": "search", "description": "Finds passages.", "parameters": '
    '{"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}}, "defer_loading": null}\n'
    "Call one by <tool_call> and </tool_call> around its name and arguments.<|im_end|>\n"
)
_CALL = {"id": "c", "type": "function", "function": {"name": "search", "arguments": '{"query":"café"}'}}
_HISTORY = [
    *MESSAGES,
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "Hamlet"},
    {"role": "tool", "tool_call_id": "d", "content": "Macbeth"},
]
_RENDERED_HISTORY = (
    f'{_USER}{_NEXT}\n<tool_call>\n{{"name": "search", "arguments": {{"query": "café"}}}}\n</tool_call><|im_end|>\n'
    "<|im_start|>user\n<tool_response>\nHamlet\n</tool_response>\n<tool_response>\nMacbeth\n</tool_response><|im_end|>\n"
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, _USER + _NEXT),
        ({"tools": [SEARCH], "tool_choice": "none"}, _USER + _NEXT),
        ({"tools": []}, _USER + _NEXT),
        ({"tools": [SEARCH]}, f"<|im_start|>system\n{_TOOLS}{_USER}{_NEXT}"),
        ({"tools": [SEARCH], "tool_choice": "auto"}, f"<|im_start|>system\n{_TOOLS}{_USER}{_NEXT}"),
        (
            {"tools": [SEARCH], "messages": [{"role": "system", "content": "Be brief."}, *MESSAGES]},
            f"<|im_start|>system\nBe brief.\n\n{_TOOLS}{_USER}{_NEXT}",
        ),
        ({"messages": _HISTORY}, _RENDERED_HISTORY + _NEXT),
        (
            {"messages": [*MESSAGES, {"role": "assistant", "content": "Well,"}]},
            f"{_USER}<|im_start|>user\nWell,<|im_end|>\n{_NEXT}",
        ),
        ({"chat_template_kwargs": {"enable_thinking": False}}, f"{_USER}{_NEXT}<think>\n\n</think>\n\n"),
    ],
)
async def test_messages_and_tools_are_rendered(
    client: Client, tokenizer: Any, fields: dict[str, Any], expected: str
) -> None:
    said = await client.chat(max_tokens=1, **fields)
    ids = said["choices"][0]["prompt_token_ids"]
    assert tokenizer.decode(ids) == expected
    assert ids == tokenizer.encode(expected, add_special_tokens=False)
    assert said["usage"]["prompt_tokens"] == len(ids)


@pytest.mark.parametrize(
    ("tool", "rendered"),
    [
        (
            {"function": {"parameters": {"type": "object", "title": "T"}, "name": "f", "strict": False, "more": 1}},
            '{"type": "function", "function": {"parameters": {"type": "object", "title": "T"}, "name": "f", '
            '"strict": false, "description": null}, "defer_loading": null}',
        ),
        (
            {"type": "function", "function": {"name": "g", "description": None, "strict": None}, "more": 1},
            '{"type": "function", "function": {"name": "g", "description": null, "parameters": null}, '
            '"defer_loading": null}',
        ),
    ],
)
async def test_a_tool_is_rendered_in_the_clients_order(
    client: Client, tokenizer: Any, tool: dict[str, Any], rendered: str
) -> None:
    choice = await client.choice(tools=[tool], max_tokens=1)
    assert f"Tools:\n{rendered}\n" in tokenizer.decode(choice["prompt_token_ids"])
