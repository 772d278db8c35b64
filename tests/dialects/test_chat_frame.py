"""What is found out about a chat template, against the template's own rendering."""

import json
from pathlib import Path
from typing import Any

import pytest

from slime_search.dialects.chat_frame import ChatFrame, ChatTemplate
from slime_search.dialects.tool_calls import SEARCH_TOOL
from slime_search.errors import ConfigError
from tests.support.chat_templates import FAMILIES, save_with_template

TOOLS = [SEARCH_TOOL.schema]

QWEN = {
    "turn_end": "<|im_end|>",
    "opening": "\n<|im_start|>user\n<tool_response>\n",
    "between": "\n</tool_response>\n<tool_response>\n",
    "closing": "\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
    "as_json": False,
    "tool_role": True,
    "system_role": True,
    "renders_tools": True,
    "readable_calls": True,
}
IPYTHON = "<|start_header_id|>ipython<|end_header_id|>\n\n"

FRAMES = {
    "qwen2.5": ChatFrame(**QWEN, keeps_turns=True),
    "qwen3": ChatFrame(**QWEN, keeps_turns=False),
    "llama3": ChatFrame(
        turn_end="<|eot_id|>",
        opening=f'{IPYTHON}"',
        between=f'"<|eot_id|>{IPYTHON}"',
        closing='"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
        as_json=True,
        tool_role=True,
        system_role=True,
        renders_tools=True,
        keeps_turns=True,
        readable_calls=True,
        notation="llama",
    ),
    "gemma": ChatFrame(
        turn_end="<end_of_turn>",
        opening="\n<start_of_turn>user\n<tool_response>\n",
        between="\n</tool_response>\n<tool_response>\n",
        closing="\n</tool_response><end_of_turn>\n<start_of_turn>model\n",
        as_json=False,
        tool_role=False,
        system_role=False,
        renders_tools=False,
        keeps_turns=True,
        readable_calls=True,
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_frame_of_each_family(name: str, families: dict[str, Any]) -> None:
    assert ChatTemplate(families[name], TOOLS).frame == FRAMES[name]


def test_a_plain_template_writes_tool_messages_and_no_tools(qwen: Any) -> None:
    template = ChatTemplate(qwen, TOOLS)
    assert template.frame == ChatFrame(
        turn_end="<|im_end|>",
        opening="\n<|im_start|>tool\n",
        between="<|im_end|>\n<|im_start|>tool\n",
        closing="<|im_end|>\n<|im_start|>assistant\n",
        as_json=False,
        tool_role=True,
        system_role=True,
        renders_tools=False,
        keeps_turns=True,
        readable_calls=True,
    )


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "llama3"])
def test_appended_results_read_as_the_template_renders_them(name: str, families: dict[str, Any]) -> None:
    """Plain content, so that the template has no reason to write a turn otherwise than it was sampled."""
    template = ChatTemplate(families[name], TOOLS)
    frame = template.frame
    asked, spoken = {"role": "user", "content": "Who?"}, "Let me see."
    results = ['Doc 1(Title: "Hamlet")\nA tragedy \\ play.', "Doc 2 naïve 東京"]
    said = [{"role": "assistant", "content": spoken}, *({"role": "tool", "content": r} for r in results)]
    rendered = template.prompt([asked, *said])
    if name == "qwen3":
        # It marks an absent thought only in the last turn of all.
        assert "</think>" not in rendered
    shown = [json.dumps(r, ensure_ascii=False)[1:-1] if frame.as_json else r for r in results]
    appended = spoken + frame.turn_end + frame.opening + shown[0] + frame.between + shown[1] + frame.closing
    assert rendered == template.prompt([asked]) + appended


def test_arguments_for_the_template_reach_it(families: dict[str, Any]) -> None:
    silent = ChatTemplate(families["qwen3"], TOOLS, {"enable_thinking": False})
    assert silent.frame.closing.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert silent.prompt([{"role": "user", "content": "Who?"}]).endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_prompt_describes_the_tools_once(name: str, families: dict[str, Any]) -> None:
    template = ChatTemplate(families[name], TOOLS)
    for messages in (
        [{"role": "user", "content": "Who?"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}],
    ):
        before = json.dumps(messages)
        prompt = template.prompt(messages)
        assert prompt.count(SEARCH_TOOL.description) == 1
        assert prompt.count("Who?") == 1 and prompt.endswith(FAMILIES[name].begin)
        assert prompt.count("Be brief.") == len(messages) - 1
        assert json.dumps(messages) == before


def test_without_tools_nothing_is_described(families: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": "Who?"}]
    assert ChatTemplate(families["gemma"], []).complete(messages) == messages


def test_a_system_message_that_is_refused_goes_before_the_question(families: dict[str, Any]) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    (merged,) = ChatTemplate(families["gemma"], []).complete(messages)
    assert merged == {"role": "user", "content": "Be brief.\n\nWho?"}
    assert ChatTemplate(families["qwen2.5"], []).complete(messages) == messages


def test_a_family_that_describes_tools_is_left_to_it(families: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": "Who?"}]
    assert ChatTemplate(families["qwen2.5"], TOOLS).complete(messages) == messages
    (described,) = ChatTemplate(families["gemma"], TOOLS).complete(messages)
    assert json.dumps(TOOLS[0]) in described["content"] and described["content"].endswith("\n\nWho?")
    assert '{"name": <name>, "arguments": <arguments>}' in described["content"]


XML = """\
{%- for tool in tools or [] -%}{{- tool.function.description -}}{%- endfor -%}
{%- for m in messages -%}
  {{- "<|im_start|>" + m.role + "\\n" + m.content -}}
  {%- for call in m.tool_calls or [] -%}
    {{- "\\n<tool_call>\\n<function=" + call.function.name + ">\\n" -}}
    {%- for name, value in call.function.arguments.items() -%}
      {{- "<parameter=" + name + ">\\n" + value + "\\n</parameter>\\n" -}}
    {%- endfor -%}
    {{- "</function>\\n</tool_call>" -}}
  {%- endfor -%}
  {{- "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""
"""In the manner of Qwen3-Coder and Qwen3.5."""


def test_the_notation_of_calls_is_told_by_the_template(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    frame = ChatTemplate(AutoTokenizer.from_pretrained(save_with_template(tmp_path, XML)), TOOLS).frame
    assert (frame.readable_calls, frame.notation, frame.renders_tools) == (True, "qwen_xml", True)
    assert (frame.turn_end, frame.opening) == ("<|im_end|>", "\n<|im_start|>tool\n")


def test_a_notation_that_is_not_known_is_noticed_and_another_can_be_named(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    unknown = XML.replace("<function=", "<run ").replace("</function>", "</run>")
    tokenizer = AutoTokenizer.from_pretrained(save_with_template(tmp_path, unknown))
    frame = ChatTemplate(tokenizer, TOOLS).frame
    assert (frame.readable_calls, frame.notation) == (False, "hermes")
    assert ChatTemplate(tokenizer, TOOLS, notation="glm").notation.name == "glm"


def each_message(body: str) -> str:
    begin = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    return f"{{% for m in messages %}}{body}{{% endfor %}}{begin}"


REFUSED = {
    "no end of a turn": (each_message("{{ m.role + ': ' + m.content + '\n' }}"), "ends the assistant's turn"),
    "turns left out": (
        each_message("{% if m.role == 'user' %}{{ m.content }}<|im_end|>{% endif %}"),
        "as it was given",
    ),
    "shouted": (each_message("{{ m.content | upper }}<|im_end|>"), "as it was given"),
    "it raises": ("{{ raise_exception('only for pictures') }}", "only for pictures"),
    "content in parts": (
        each_message("{% for c in m.content %}{{ c.text + '' }}{% endfor %}<|im_end|>"),
        "can't render",
    ),
}


@pytest.mark.parametrize(("source", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_template_that_can_not_be_framed_is_refused(source: str, reason: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(save_with_template(tmp_path, source))
    with pytest.raises(ConfigError, match=r"^chat template: ") as caught:
        ChatTemplate(tokenizer, TOOLS)
    assert reason in str(caught.value)
    assert "tag recipe" in str(caught.value)


@pytest.mark.parametrize("changed", ["m.content | truncate(200)", "m.content[:400]", "m.content | replace('\\n', ' ')"])
def test_a_template_that_changes_long_results_is_refused(changed: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = XML.replace("m.content", f"({changed} if m.role == 'tool' else m.content)")
    assert source != XML
    tokenizer = AutoTokenizer.from_pretrained(save_with_template(tmp_path, source))
    with pytest.raises(ConfigError, match=r"^chat template: "):
        ChatTemplate(tokenizer, TOOLS)


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(save_with_template(tmp_path, "{{ '' }}"))
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match=f"^{tmp_path}: its tokenizer has no chat template"):
        ChatTemplate(tokenizer, TOOLS)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("qwen2.5", '<tool_call>\n{"name": "search", "arguments": {"query": "a \\"b\\""}}\n</tool_call>'),
        ("qwen3", '<tool_call>\n{"name": "search", "arguments": {"query": "a \\"b\\""}}\n</tool_call>'),
        ("llama3", '{"name": "search", "parameters": {"query": "a \\"b\\""}}'),
        ("gemma", '<tool_call>\n{"name": "search", "arguments": {"query": "a \\"b\\""}}\n</tool_call>'),
    ],
)
def test_a_call_in_the_notation_of_the_family(name: str, written: str, families: dict[str, Any]) -> None:
    template = ChatTemplate(families[name], [SEARCH_TOOL.schema])
    assert template.call("search", {"query": 'a "b"'}) == written
