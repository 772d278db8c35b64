"""Calls in each family's notation: what is written reads back, and nothing that a model writes makes a reader raise."""

import json
import keyword
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.core.call_markup import WrittenCall
from slime_search.core.dialect import Answer, CallTools, Invalid, ToolCall
from slime_search.dialects.notations import NOTATIONS, notation_of
from slime_search.dialects.notations.base import Notation
from slime_search.dialects.tool_calls import SEARCH_MANY_TOOL, SEARCH_TOOL, ToolCallFormat

names = st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True).filter(
    lambda name: not keyword.iskeyword(name) and name not in ("true", "false", "null")
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)


def marks(notation: Notation) -> list[str]:
    return [*notation.marks, *notation.result_marks, *notation.thought]


def is_free(notation: Notation, value: Any) -> bool:
    """Whether a call with this value can be written: no notation can hold its own marks, or half a surrogate pair."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if any("\ud800" <= c <= "\udfff" for c in text):
        return False
    # A value at a mark may complete it, so no part of one is in it either.
    return not any(c in text for c in "<>[]|｜") or not any(m in text or m[:-1] in text for m in marks(notation))


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)
@given(name=names, query=st.text(max_size=30))
def test_a_query_reads_back(notation: Notation, name: str, query: str) -> None:
    if not is_free(notation, query) or (notation.name == "lfm2" and "\x00" in query):
        return
    if notation.name == "llama" and "tool_call>" in query:
        return
    before, calls, after = notation.split(notation.write(name, {"query": query}))
    assert [(call.name, dict(call.arguments), call.error) for call in calls] == [(name, {"query": query}, None)]
    assert (before.strip(), after.strip()) == ("", "")


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)
@given(name=names, arguments=st.dictionaries(names, values, max_size=3))
def test_arguments_of_any_kind_read_back(notation: Notation, name: str, arguments: dict[str, Any]) -> None:
    if not is_free(notation, list(arguments.values())) or "\\u0000" in json.dumps(arguments):
        return
    _, calls, _ = notation.split(notation.write(name, arguments))
    as_text = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in arguments.items()}
    expected = as_text if notation.values_are_text else arguments
    assert [(call.name, dict(call.arguments), call.error) for call in calls] == [(name, expected, None)]


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)
@given(data=st.data())
def test_no_text_makes_a_reader_raise_and_each_is_some_action(notation: Notation, data: st.DataObject) -> None:
    written = notation.write("search", {"query": "who"})
    pieces = [
        *marks(notation),
        written,
        written[:-3],
        written[5:],
        "search",
        "query",
        "{",
        "}",
        '"',
        "'",
        "(",
        "\n",
        ":",
    ]
    text = data.draw(st.lists(st.sampled_from(pieces) | st.text(max_size=5), max_size=10).map("".join))
    turns = ToolCallFormat([SEARCH_TOOL], notation)
    action = turns.parse(text)
    assert isinstance(action, Answer | CallTools | Invalid)
    if isinstance(action, Invalid):
        assert action.reason and len(action.reason) < 600 and not turns.is_well_formed(text)


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)
def test_a_call_that_is_cut_short_is_not_an_answer(notation: Notation) -> None:
    """A malformed call stays visible: it is corrected, and does not count as what the model says."""
    written = notation.write("search", {"query": "who wrote it"})
    for cut in (written[: len(written) * 2 // 3], written.replace("search", "", 1)):
        action = ToolCallFormat([SEARCH_TOOL], notation).parse(cut)
        assert isinstance(action, Invalid), cut


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)
def test_a_deep_or_long_call_is_read_or_refused(notation: Notation) -> None:
    written = notation.write("search", {"query": "who"})
    for body in ("[" * 100_000, "(" * 100_000, "{" * 100_000, '{"a":' * 100_000):
        text = written.replace('"who"', body).replace("'who'", body).replace("who", body)
        assert ToolCallFormat([SEARCH_TOOL], notation).parse(text) is not None


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)
def test_a_list_of_queries_is_several_calls(notation: Notation) -> None:
    turn = notation.write("search", {"query": ["who", "when"]})
    action = ToolCallFormat([SEARCH_MANY_TOOL], notation).parse(turn)
    assert isinstance(action, CallTools)
    assert [(call.query, call.joins_last) for call in action.calls] == [("who", False), ("when", True)]


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)
def test_a_notation_is_known_by_its_call(notation: Notation) -> None:
    found = notation_of(notation.write("search", {"query": "Landmark"}), "search", {"query": "Landmark"})
    # As text the calls of V3.1 are among those of no other, and Mistral's two differ.
    assert found is notation


AS_SAMPLED: dict[str, tuple[str, str, list[WrittenCall]]] = {
    "a preamble, two blocks": (
        "qwen_xml",
        "Let me see.\n\n<tool_call>\n<function=search>\n<parameter=query>\na\nb\n</parameter>\n</function>\n"
        "</tool_call>\n"
        "<tool_call><function=search><parameter=query>c</parameter></function></tool_call>",
        [WrittenCall("search", {"query": "a\nb"}), WrittenCall("search", {"query": "c"})],
    ),
    "GLM 4.7 without line ends": (
        "glm",
        "<tool_call>search<arg_key>query</arg_key><arg_value>a < b</arg_value></tool_call>",
        [WrittenCall("search", {"query": "a < b"})],
    ),
    "gpt-oss as it samples": (
        "gpt_oss",
        '<|channel|>commentary to=functions.search <|constrain|>json<|message|>{"query": "a"}',
        [WrittenCall("search", {"query": "a"})],
    ),
    "gpt-oss as the template writes": (
        "gpt_oss",
        ' to=functions.search<|channel|>commentary json<|message|>{"query": "a"}<|call|>',
        [WrittenCall("search", {"query": "a"})],
    ),
    "Llama's built-in": (
        "llama",
        '<|python_tag|>brave_search.call(query="a, \\"b\\"")',
        [WrittenCall("brave_search", {"query": 'a, "b"'})],
    ),
    "Llama, two": (
        "llama",
        '{"name": "f", "parameters": {"q": "a"}}; {"name": "f", "parameters": {"q": "b"}}',
        [WrittenCall("f", {"q": "a"}), WrittenCall("f", {"q": "b"})],
    ),
    "Gemma, nested": (
        "gemma4",
        '<|tool_call>call:f{a:[1,2.5,true,null],o:{k:<|"|>x:{}<|"|>}}<tool_call|>',
        [WrittenCall("f", {"a": [1, 2.5, True, None], "o": {"k": "x:{}"}})],
    ),
    "Mistral's list": (
        "mistral_json",
        '[TOOL_CALLS] [{"name": "f", "arguments": {}, "id": "abcdefghi"}, {"name": "g", "arguments": {"q": 1}}]',
        [WrittenCall("f", {}, None, "abcdefghi"), WrittenCall("g", {"q": 1})],
    ),
    "Mistral with ids": (
        "mistral",
        '[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{"q": 1}[TOOL_CALLS]g[ARGS]{}',
        [WrittenCall("f", {"q": 1}, None, "abcdefghi"), WrittenCall("g", {})],
    ),
    "an apostrophe that a template of LFM2 left as it is": (
        "lfm2",
        "<|tool_call_start|>[search(query='Who is O'Brien?')]<|tool_call_end|>",
        [WrittenCall("search", {"query": "Who is O'Brien?"})],
    ),
    "LFM2, two, JSON inside": (
        "lfm2",
        '<|tool_call_start|>[f(a={"b": true}, c=-1), g()]<|tool_call_end|>',
        [WrittenCall("f", {"a": {"b": True}, "c": -1}), WrittenCall("g", {})],
    ),
    "MiniMax, two in a block": (
        "minimax",
        '<minimax:tool_call>\n<invoke name="f">\n<parameter name="q">a</parameter>\n</invoke>\n'
        '<invoke name="g">\n</invoke>\n</minimax:tool_call>',
        [WrittenCall("f", {"q": "a"}), WrittenCall("g", {})],
    ),
    "V4, a number": (
        "deepseek_v4",
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="k" string="false">3'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
        [WrittenCall("f", {"k": 3})],
    ),
}


@pytest.mark.parametrize(("name", "turn", "expected"), AS_SAMPLED.values(), ids=AS_SAMPLED)
def test_a_turn_as_a_model_writes_it(name: str, turn: str, expected: list[WrittenCall]) -> None:
    assert NOTATIONS[name].split(turn)[1] == expected


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        (
            "gpt_oss",
            "<|channel|>analysis<|message|>Berlin?<|end|><|start|>assistant<|channel|>final<|message|>Paris<|return|>",
        ),
        ("gemma4", "<|channel>thought\nBerlin?\n<channel|>Paris<turn|>"),
        ("mistral", "[THINK]Berlin?[/THINK]Paris</s>"),
        ("glm", "\n<think>Berlin?</think>\nParis<|user|>"),
        ("minimax", "<think>\nBerlin?\n</think>\n\nParis[e~["),
        ("deepseek_v31", "Berlin?</think>Paris<｜end▁of▁sentence｜>"),
    ],
)
def test_a_thought_is_no_part_of_the_answer(name: str, turn: str) -> None:
    turns = ToolCallFormat([SEARCH_TOOL], NOTATIONS[name])
    assert turns.parse(turn) == Answer("Paris")
    assert turns.is_well_formed(turn)


def test_a_turn_that_only_thinks_says_nothing() -> None:
    turns = ToolCallFormat([SEARCH_TOOL], NOTATIONS["gpt_oss"])
    assert turns.parse("<|channel|>analysis<|message|>Paris<|return|>") == Invalid("the thought is not closed")
    assert turns.parse("<|channel|>final<|message|>Paris<|return|>") == Answer("Paris")


def test_a_result_that_the_model_made_up_is_invalid_in_every_notation() -> None:
    for notation in NOTATIONS.values():
        for mark in notation.result_marks:
            if mark not in notation.ends:
                action = ToolCallFormat([SEARCH_TOOL], notation).parse(f"x{mark}Paris")
                assert isinstance(action, Invalid) and "only a tool may" in action.reason


def test_the_same_functions_in_another_notation() -> None:
    hermes = ToolCallFormat([SEARCH_TOOL])
    glm = hermes.reading(NOTATIONS["glm"])
    turn = NOTATIONS["glm"].write("search", {"query": "a"})
    assert glm.parse(turn) == CallTools((ToolCall("search", "a"),))
    assert isinstance(hermes.parse(turn), Invalid)


@pytest.mark.parametrize("query", ["x</think>y", "what is <think>"])
def test_marks_of_a_thought_in_a_bare_call_are_the_querys(query: str) -> None:
    turns = ToolCallFormat([SEARCH_TOOL], NOTATIONS["llama"])
    assert turns.parse(NOTATIONS["llama"].write("search", {"query": query})) == CallTools((ToolCall("search", query),))
