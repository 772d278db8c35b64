"""Calls as text: what is written reads back, and nothing that a model writes makes the reader raise."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.core.call_markup import WrittenCall, call_block, split_calls

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
# A call can't hold the marks of calls, whoever wrote it.
markless = st.text().filter(lambda text: "tool_call>" not in text)
functions = st.tuples(markless, st.dictionaries(markless, json_values)).filter(
    lambda function: "tool_call>" not in json.dumps(function, ensure_ascii=False)
)


@given(before=markless, functions=st.lists(functions, min_size=1, max_size=4), after=markless, as_string=st.booleans())
def test_what_is_written_reads_back(
    before: str, functions: list[tuple[str, dict[str, Any]]], after: str, as_string: bool
) -> None:
    def block(name: str, arguments: dict[str, Any]) -> str:
        return call_block({"name": name, "arguments": json.dumps(arguments) if as_string else arguments})

    text = before + "\n".join(block(*function) for function in functions) + after
    first, calls, rest = split_calls(text)
    assert first == before
    assert calls == [WrittenCall(name, arguments) for name, arguments in functions]
    assert rest == "\n" * (len(functions) - 1) + after


def test_a_block_as_qwen_writes_it() -> None:
    block = call_block({"name": "search", "arguments": {"query": "Wer schrieb „Faust“?"}})
    assert block == '<tool_call>\n{"name": "search", "arguments": {"query": "Wer schrieb „Faust“?"}}\n</tool_call>'
    assert call_block({"name": "search"}) == '<tool_call>\n{"name": "search", "arguments": {}}\n</tool_call>'


def test_what_a_server_hands_on_stays_as_malformed_as_it_was() -> None:
    _, (call,), _ = split_calls(call_block({"name": "search", "arguments": '{"query": "a'}))
    assert call.error is not None and "one JSON object" in call.error


READINGS = {
    "arguments": ('<tool_call>{"name": "f", "arguments": {"q": 1}}</tool_call>', WrittenCall("f", {"q": 1})),
    "parameters": ('<tool_call>{"name": "f", "parameters": {"q": 1}}</tool_call>', WrittenCall("f", {"q": 1})),
    "arguments in a string": (
        '<tool_call>{"name": "f", "arguments": "{\\"q\\": 1}"}</tool_call>',
        WrittenCall("f", {"q": 1}),
    ),
    "further keys": ('<tool_call>{"id": 3, "name": "f", "arguments": {}}</tool_call>', WrittenCall("f", {})),
    "Llama's bare object": ('{"name": "f", "parameters": {"q": "a"}}', WrittenCall("f", {"q": "a"})),
    "a bare object after the tag": ('<|python_tag|>{"name": "f", "parameters": {}}', WrittenCall("f", {})),
    "a bare object among blanks": ('\n {"name": "f", "arguments": {}} \n', WrittenCall("f", {})),
}


@pytest.mark.parametrize(("text", "call"), READINGS.values(), ids=READINGS)
def test_a_call_is_read(text: str, call: WrittenCall) -> None:
    assert split_calls(text) == ("", [call], "")


MALFORMED = {
    "no JSON": ("<tool_call>search for it</tool_call>", "one JSON object"),
    "two objects": ("<tool_call>{} {}</tool_call>", "one JSON object"),
    "empty": ("<tool_call></tool_call>", "one JSON object"),
    "a list": ('<tool_call>[{"name": "f", "arguments": {}}]</tool_call>', "must have the form"),
    "no name": ('<tool_call>{"arguments": {}}</tool_call>', "must have the form"),
    "a name that is no text": ('<tool_call>{"name": 7, "arguments": {}}</tool_call>', "must have the form"),
    "no arguments": ('<tool_call>{"name": "f"}</tool_call>', "must have the form"),
    "arguments that are no object": ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', "a JSON object"),
    "null arguments": ('<tool_call>{"name": "f", "arguments": null}</tool_call>', "a JSON object"),
    "a string that is no JSON": ('<tool_call>{"name": "f", "arguments": "x"}</tool_call>', "a JSON object"),
    "not closed": ('<tool_call>{"name": "f", "arguments": {}}', "pairs"),
    "not opened": ('{"name": "f", "arguments": {}}</tool_call>', "pairs"),
    "opened twice": ('<tool_call><tool_call>{"name": "f", "arguments": {}}</tool_call>', "one JSON object"),
    "nested ever deeper": (f"<tool_call>{'[' * 200_000}</tool_call>", "JSON object"),
    "deep arguments": (f'<tool_call>{{"name": "f", "arguments": "{"[" * 200_000}"}}</tool_call>', "a JSON object"),
    "a number without end": (f"<tool_call>{'9' * 10_000}</tool_call>", "JSON object"),
}


@pytest.mark.parametrize(("text", "error"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_call_says_what_is_wrong(text: str, error: str) -> None:
    _, (call,), _ = split_calls(text)
    assert call.error is not None and error in call.error
    assert len(call.error) < 200


def test_a_mark_left_over_is_one_more_malformed_call() -> None:
    text = 'a<tool_call>{"name": "f", "arguments": {}}</tool_call>b<tool_call>c'
    before, calls, after = split_calls(text)
    assert (before, after) == ("a", "b<tool_call>c")
    assert [call.error is None for call in calls] == [True, False]


@pytest.mark.parametrize(
    "text", ["", "Hamlet", "{}", '{"name": "Hamlet"}', "[1]", '{"name": "f", "arguments": 3}', "{" * 9]
)
def test_text_without_a_call_is_only_text(text: str) -> None:
    assert split_calls(text) == (text, [], "")


FRAGMENTS = [
    "<tool_call>",
    "</tool_call>",
    '{"name": "f", ',
    '"arguments": {"query": "a"}}',
    "{",
    "}",
    '"',
    "\\",
    "\ud800",
    "\n",
    "null",
]


@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=12).map("".join))
def test_no_text_makes_it_raise_or_loses_what_stands_before(text: str) -> None:
    before, calls, after = split_calls(text)
    assert text.startswith(before)
    if not calls:
        assert (before, after) == (text, "")
    for call in calls:
        assert isinstance(call.arguments, dict) and (call.error is None or call.error)
