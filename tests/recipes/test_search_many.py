"""One call with a list of queries: each is searched for, and one message answers them all."""

import json
from typing import Any

import pytest

from slime_search.core.dialect import Action, CallTools, Invalid, ToolCall
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import ToolResult
from slime_search.dialects.chat_frame import ChatTemplate
from slime_search.dialects.tool_calls import CALLS_A_TURN, MARKUP, SEARCH_MANY_TOOL, ToolCallDialect, ToolCallFormat
from slime_search.recipes.search_r1_tools import SearchR1Tools
from tests.support.chat_rollouts import asking, chat_turns, check_exact, generate_all
from tests.support.chat_templates import FAMILIES
from tests.support.rollouts import arguments
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_retriever import ScriptedRetriever


def call(query: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': 'search', 'arguments': {'query': query}})}\n</tool_call>"


def listed(*queries: str) -> tuple[ToolCall, ...]:
    return tuple(ToolCall("search", query, joins_last=place > 0) for place, query in enumerate(queries))


@pytest.mark.parametrize(
    ("turn", "action"),
    [
        (call("a"), CallTools(listed("a"))),
        (call(["a"]), CallTools(listed("a"))),
        (call([" a", "b", "a "]), CallTools(listed("a", "b"))),
        (call(["a", "b"]) + call("c"), CallTools((*listed("a", "b"), *listed("c")))),
        (call([]), Invalid('the arguments of search must be {"query": "…"} or {"query": ["…", "…"]}')),
        (call(["a", 3]), Invalid('the arguments of search must be {"query": "…"} or {"query": ["…", "…"]}')),
        (call(["a", " "]), Invalid('the arguments of search must be {"query": "…"} or {"query": ["…", "…"]}')),
        (call(list("abcdefghi")), Invalid(f"a turn may hold {CALLS_A_TURN} calls at most")),
    ],
)
def test_what_a_call_asks_for(turn: str, action: Action) -> None:
    assert ToolCallFormat([SEARCH_MANY_TOOL]).parse(turn) == action


def test_the_model_is_told_of_both() -> None:
    (query,) = SEARCH_MANY_TOOL.schema["function"]["parameters"]["properties"].values()
    assert query["anyOf"] == [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_results_of_a_list_share_one_message(name: str, families: dict[str, Any]) -> None:
    codec = TokenCodec(families[name], MARKUP)
    dialect = ToolCallDialect([SEARCH_MANY_TOOL], ChatTemplate(families[name], [SEARCH_MANY_TOOL.schema]))
    action = CallTools((*listed("a", "b"), *listed("c")))
    results = [ToolResult((f"Doc 1 says {letter}\n",)) for letter in "xyz"]
    observation = dialect.observation(codec, action, results)
    assert observation is not None
    assert observation.results == ("a:\nDoc 1 says x\n\nb:\nDoc 1 says y", "Doc 1 says z")
    assert families[name].decode(observation.token_ids) == observation.text
    frame = dialect.template.frame
    assert observation.text.count(frame.between) == 1
    small = dialect.observation(codec, action, results, len(observation.token_ids) - 8)
    assert small is not None and len(small.token_ids) <= len(observation.token_ids) - 8


class SearchMany(SearchR1Tools):
    tools = (SEARCH_MANY_TOOL,)
    format = ToolCallFormat(tools)


def test_each_query_is_searched_for(tokenizer: Any, retriever: ScriptedRetriever, checkpoint: Any) -> None:
    turns = (f"{call(['thing-7 maker', 'thing-8 maker'])}<|im_end|>", "<answer> name-7 </answer><|im_end|>")
    with ScriptedChat(tokenizer, chat_turns(*turns)) as speaker:
        recipe = SearchMany({"local": {"search_url": retriever.search_url}})
        (sample,) = generate_all(recipe, arguments(speaker, checkpoint, router_policy="consistent_hashing"), [asking()])
        check_exact(speaker, sample)
    assert sorted(retriever.queries) == ["thing-7 maker", "thing-8 maker"]
    record = sample.metadata["slime_search"]
    assert [c["query"] for c in record["calls"]] == ["thing-7 maker", "thing-8 maker"]
    (text,) = record["segments"][1]["results"]
    assert "thing-7 maker:\nDoc 1" in text and "\n\nthing-8 maker:\nDoc 1" in text
    assert sample.reward == 1.0
