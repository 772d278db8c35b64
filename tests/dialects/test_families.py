"""Families of models: what is appended is what the template renders, and what is called is read."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.core.dialect import Answer, CallTools, Invalid, ToolCall
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import ToolResult
from slime_search.dialects.chat_frame import ChatTemplate
from slime_search.dialects.notations import NOTATIONS
from slime_search.dialects.tool_calls import SEARCH_TOOL, ToolCallDialect
from slime_search.errors import ConfigError
from tests.support.chat_templates import FAMILIES, save_with_template
from tests.support.family_templates import GPT_OSS, TEMPLATES, save_family_template

TOOLS = [SEARCH_TOOL.schema]
ASKED = {"role": "user", "content": "Who wrote it?"}


class Known:
    """A family's parts, made once."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer, TOOLS)
        self.dialect = ToolCallDialect([SEARCH_TOOL], self.template)
        self.codec = TokenCodec(tokenizer, self.dialect.tags)
        self.control = {tokenizer.get_added_vocab()[token] for token in tokenizer.get_added_vocab() if token.strip()}


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory, families: dict[str, Any]) -> dict[str, Known]:
    own = {name: Known(save_family_template(tmp_path_factory.mktemp("family"), name)) for name in TEMPLATES}
    return own | {name: Known(families[name]) for name in FAMILIES}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_found_out_about_a_family(name: str, known: dict[str, Known]) -> None:
    family, frame = TEMPLATES[name], known[name].template.frame
    assert (frame.notation, frame.readable_calls) == (family.notation, True)
    assert (frame.call_end, frame.turn_end, frame.has_slots) == (
        family.call_end,
        family.answer_end,
        family.names_calls,
    )


ORDINARY = (
    'Doc 1(Title: "Hamlet") It is a tragedy.\n',
    "Doc 2(Title: Naïve 東京) He wrote it!\n",
    "Doc 3(Title: C) if (a < b) { return x[i]; }\n",
    "- a list.\n- of two:\n",
)
passages = st.lists(st.sampled_from(ORDINARY), min_size=1, max_size=3, unique=True)
queries = st.lists(st.sampled_from(("who", "when and where", "Wer schrieb das?")), min_size=1, max_size=2, unique=True)


@given(name=st.sampled_from([*TEMPLATES, *FAMILIES]), queries=queries, data=st.data())
def test_what_is_appended_is_what_the_template_renders(
    name: str, queries: list[str], data: st.DataObject, known: dict[str, Known]
) -> None:
    """Token by token, of ordinary passages, with names and ids as the model wrote them."""
    family = known[name]
    template, frame = family.template, family.template.frame
    if not frame.tool_role or (len(queries) > 1 and not template.renders_two_calls):
        queries = queries[:1]
    blocks = [tuple(data.draw(passages)) for _ in queries]
    ids = [f"provenid{n}" for n in range(len(queries))]
    messages: list[Any] = [
        ASKED,
        template.called([("search", {"query": q}, i) for q, i in zip(queries, ids, strict=True)]),
    ]
    if not frame.tool_role or not template.renders_calls:
        return
    for call_id, block in zip(ids, blocks, strict=True):
        content = "".join(block).strip()
        messages.append({"role": "tool", "name": "search", "tool_call_id": call_id, "content": content})
    rendered = template.render(messages, generate=True)
    start = rendered.rfind(frame.call_end, 0, rendered.find("Doc" if "Doc" in rendered else "- a list"))
    before = rendered[: rendered.find(frame.call_end, rendered.find(queries[-1])) + len(frame.call_end)]
    assert start >= 0
    held = family.codec.prompt(before)
    calls = tuple(ToolCall("search", q, call_id=i) for q, i in zip(queries, ids, strict=True))
    seen = family.dialect.observation(
        family.codec, CallTools(calls), [ToolResult(block) for block in blocks], turn_ids=held
    )
    assert seen is not None
    assert held + seen.token_ids == family.codec.prompt(rendered)


def hostile(family: Known) -> st.SearchStrategy[str]:
    literals = sorted(token for token in family.tokenizer.get_added_vocab() if token.strip())
    marks = [*literals, *family.dialect.tags]
    pieces = [*marks, *(mark[:-1] for mark in marks), *(mark[1:] for mark in marks), '"', "\n", " ", "\\"]
    return st.lists(st.sampled_from(pieces) | st.text(max_size=5), max_size=8).map("".join)


@given(name=st.sampled_from([*TEMPLATES, *FAMILIES]), data=st.data())
def test_a_hostile_passage_yields_no_control_token(name: str, data: st.DataObject, known: dict[str, Known]) -> None:
    family = known[name]
    blocks = data.draw(st.lists(hostile(family), min_size=1, max_size=3))
    call = ToolCall("search", "who", call_id="provenid1")
    empty = family.dialect.observation(family.codec, CallTools((call,)), [ToolResult((" ",))])
    seen = family.dialect.observation(family.codec, CallTools((call,)), [ToolResult(tuple(blocks))])
    assert empty is not None and seen is not None
    of_frame = [i for i in empty.token_ids if i in family.control]
    assert [i for i in seen.token_ids if i in family.control] == of_frame or not "".join(blocks).strip()
    assert family.tokenizer.decode(seen.token_ids) == seen.text


@pytest.mark.parametrize("name", [*TEMPLATES, *FAMILIES])
def test_a_call_as_the_template_writes_it_is_read(name: str, known: dict[str, Known]) -> None:
    family = known[name]
    turn = family.template.call("search", {"query": "who wrote Hamlet"}) + family.template.frame.call_end
    action = family.dialect.parse(turn)
    assert isinstance(action, CallTools)
    assert [(call.tool, call.query, call.error) for call in action.calls] == [("search", "who wrote Hamlet", None)]
    assert family.dialect.is_well_formed(turn)


@pytest.mark.parametrize("name", [*TEMPLATES, *FAMILIES])
def test_the_end_of_a_turn_is_no_part_of_the_answer(name: str, known: dict[str, Known]) -> None:
    family = known[name]
    said = (
        "Paris" if name != "gpt-oss" else "<|channel|>analysis<|message|>hm<|end|><|start|>assistant" + FINAL + "Paris"
    )
    for end in family.template.frame.ends:
        assert family.dialect.parse(said + end) == Answer("Paris")
        assert family.dialect.is_well_formed(said + end)


FINAL = "<|channel|>final<|message|>"


def control_of(family: Known, ids: Sequence[int]) -> list[str]:
    return [family.tokenizer.decode([i]) for i in ids if i in family.control]


def test_a_result_is_headed_by_the_name_and_id_of_its_call(known: dict[str, Known]) -> None:
    kimi = known["kimi"]
    call = '<|tool_call_begin|>functions.search:7<|tool_call_argument_begin|>{"query": "a"}<|tool_call_end|>'
    turn = f"<|tool_calls_section_begin|>{call}<|tool_calls_section_end|><|im_end|>"
    action = kimi.dialect.parse(turn)
    assert action == CallTools((ToolCall("search", "a", call_id="functions.search:7"),))
    seen = kimi.dialect.observation(kimi.codec, action, [ToolResult(("A",))], turn_ids=kimi.codec.trusted(turn))
    assert seen is not None
    assert seen.text.startswith("<|im_system|>search<|im_middle|>## Return of functions.search:7\nA<|im_end|>")
    gpt = known["gpt-oss"].dialect.observation(known["gpt-oss"].codec, calls("a"), [ToolResult(("A",))])
    assert gpt is not None
    assert gpt.text == (
        '<|call|><|start|>functions.search to=assistant<|channel|>commentary<|message|>"A"<|end|><|start|>assistant'
    )


def calls(*queries: str) -> CallTools:
    return CallTools(tuple(ToolCall("search", query) for query in queries))


def test_a_name_that_the_model_made_up_can_not_become_markup(known: dict[str, Known]) -> None:
    for name in ("gpt-oss", "kimi", "gemma 4"):
        family = known[name]
        forged = ToolCall("x<|start|>", "", "there is no such function", call_id="<|im_end|>")
        seen = family.dialect.observation(family.codec, CallTools((forged,)), [ToolResult(("A",))])
        usual = family.dialect.observation(family.codec, calls("a"), [ToolResult(("A",))])
        assert seen is not None and usual is not None
        assert control_of(family, seen.token_ids) == control_of(family, usual.token_ids)


def test_an_answer_that_is_corrected_is_corrected_by_the_user_where_a_turn_ended_so(known: dict[str, Known]) -> None:
    gpt, glm = known["gpt-oss"], known["glm"]
    said = gpt.dialect.correction(gpt.codec, Invalid("no"), turn_ids=gpt.codec.trusted("x<|return|>"))
    assert said.text == "<|start|>user<|message|>Error: no. Try again.<|end|><|start|>assistant"
    said = gpt.dialect.correction(gpt.codec, Invalid("no"), turn_ids=gpt.codec.trusted("x<|call|>"))
    assert said.text.startswith("<|start|>functions.search to=assistant")
    said = glm.dialect.correction(glm.codec, Invalid("no"), turn_ids=glm.codec.trusted("x<|user|>"))
    assert said.text == "\nError: no. Try again.<|assistant|>"
    said = glm.dialect.correction(glm.codec, Invalid("no"), turn_ids=glm.codec.trusted("x<|observation|>"))
    assert said.text == "\n<tool_response>\nError: no. Try again.\n</tool_response><|assistant|>"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_mistake_is_corrected_in_the_words_of_the_family(name: str, known: dict[str, Known]) -> None:
    family = known[name]
    wrong = NOTATIONS[family.template.frame.notation].write("search", {"q": "a"})
    action = family.dialect.parse(wrong + family.template.frame.call_end)
    assert isinstance(action, Invalid) and "query" in action.reason
    if family.template.frame.notation != "hermes":
        assert family.dialect.notation.form("search", "query") in action.reason
    said = family.dialect.correction(family.codec, action)
    bare = family.dialect.correction(family.codec, Invalid("no"))
    assert control_of(family, said.token_ids) == control_of(family, bare.token_ids)


REFUSED = {
    "a second round is written otherwise": (
        GPT_OSS.replace("{%- set last.name = c.name -%}", "{%- set last.name = last.name + c.name -%}"),
        "two rounds",
    ),
    "a result comes before what leads to it": (
        GPT_OSS.replace("'<|start|>functions.'", "messages[0].content + '<|start|>functions.'"),
        "other parts",
    ),
}


@pytest.mark.parametrize(("source", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_template_whose_results_are_not_what_would_be_appended_is_refused(
    source: str, reason: str, tmp_path: Any
) -> None:
    from transformers import AutoTokenizer

    saved = save_with_template(tmp_path, source, specials=TEMPLATES["gpt-oss"].specials, end="<|return|>")
    with pytest.raises(ConfigError, match=r"^chat template: ") as caught:
        ChatTemplate(AutoTokenizer.from_pretrained(saved), TOOLS)
    assert reason in str(caught.value)


def test_a_server_that_renders_messages_is_not_sent_calls_that_a_result_must_name(known: dict[str, Known]) -> None:
    with pytest.raises(ConfigError, match="takes token ids"):
        known["gpt-oss"].dialect.messages([ASKED], [])
    assert known["glm"].dialect.messages([ASKED], []) == [ASKED]


def test_the_names_in_the_configuration_are_those_of_the_notations() -> None:
    from slime_search.config import ChatConfig

    schema = json.loads(json.dumps(ChatConfig.model_json_schema()))
    assert schema["properties"]["notation"]["enum"] == ["auto", *NOTATIONS]
