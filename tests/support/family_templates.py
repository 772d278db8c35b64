"""Chat templates in the manner of families with calls of their own, with fewer words, and what is known of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.chat_templates import save_with_template

_TOOLS = "{%- for t in tools or [] -%}{{- t.function.name + ': ' + t.function.description + '\\n' -}}{%- endfor -%}"

QWEN_XML = (
    "{{- '<|im_start|>system\\n' -}}"
    + _TOOLS
    + """{{- '<|im_end|>\\n' -}}
{%- for m in messages -%}
  {%- if m.role == 'tool' -%}
    {%- if loop.previtem.role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
    {{- '\\n<tool_response>\\n' + (m.content | trim) + '\\n</tool_response>' -}}
    {%- if loop.last or loop.nextitem.role != 'tool' -%}{{- '<|im_end|>\\n' -}}{%- endif -%}
  {%- elif m.role == 'assistant' -%}
    {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + m.content -}}
    {%- for c in m.tool_calls or [] -%}
      {%- if not loop.first -%}{{- '\\n' -}}{%- endif -%}
      {{- '<tool_call>\\n<function=' + c.function.name + '>\\n' -}}
      {%- for k, v in c.function.arguments.items() -%}
        {{- '<parameter=' + k + '>\\n' + (v if v is string else v | tojson) + '\\n</parameter>\\n' -}}
      {%- endfor -%}
      {{- '</function>\\n</tool_call>' -}}
    {%- endfor -%}
    {{- '<|im_end|>\\n' -}}
  {%- else -%}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}
"""
)

QWQ = """\
{%- for m in messages -%}
  {%- if m.role == 'tool' -%}
    {%- if loop.previtem.role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
    {{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' -}}
    {%- if loop.last or loop.nextitem.role != 'tool' -%}{{- '<|im_end|>\\n' -}}{%- endif -%}
  {%- elif m.role == 'assistant' -%}
    {{- '<|im_start|>assistant\\n' + m.content.split('</think>')[-1].lstrip('\\n') -}}
    {%- for c in m.tool_calls or [] -%}
      {{- '<tool_call>\\n' + (c.function | tojson) + '\\n</tool_call>' -}}
    {%- endfor -%}
    {{- '<|im_end|>\\n' -}}
  {%- else -%}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}
"""
"""Drops the thoughts of all earlier turns, those between calls too."""

GPT_OSS = (
    "{{- '<|start|>developer<|message|>' -}}"
    + _TOOLS
    + """{{- '<|end|>' -}}
{%- set last = namespace(name='') -%}
{%- for m in messages -%}
  {%- if m.tool_calls -%}
    {%- set c = m.tool_calls[0].function -%}
    {{- '<|start|>assistant to=functions.' + c.name + '<|channel|>commentary json<|message|>' -}}
    {{- (c.arguments | tojson) + '<|call|>' -}}
    {%- set last.name = c.name -%}
  {%- elif m.role == 'assistant' -%}
    {{- '<|start|>assistant<|channel|>final<|message|>' + m.content -}}
    {{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' -}}
  {%- elif m.role == 'tool' -%}
    {{- '<|start|>functions.' + last.name + ' to=assistant<|channel|>commentary<|message|>' -}}
    {{- (m.content | tojson) + '<|end|>' -}}
  {%- else -%}{{- '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}
"""
)

GEMMA_4 = (
    "{{- '<bos><|turn>system\\n' -}}"
    + _TOOLS
    + """{{- '<turn|>\\n' -}}
{%- set last = namespace(kind='') -%}
{%- for m in messages if m.role != 'tool' -%}
  {%- set role = 'model' if m.role == 'assistant' else m.role -%}
  {%- if not (role == 'model' and last.kind == 'result') -%}{{- '<|turn>' + role + '\\n' -}}{%- endif -%}
  {%- set last.kind = '' -%}
  {%- for c in m.tool_calls or [] -%}
    {{- '<|tool_call>call:' + c.function.name + '{' -}}
    {%- for k, v in c.function.arguments | dictsort -%}
      {{- (',' if not loop.first else '') + k + ':<|"|>' + v + '<|"|>' -}}
    {%- endfor -%}
    {{- '}<tool_call|>' -}}
    {%- set last.kind = 'call' -%}
  {%- endfor -%}
  {%- for c in m.tool_calls or [] -%}
    {%- for r in messages if r.role == 'tool' and r.tool_call_id == c.id -%}
      {{- '<|tool_response>response:' + c.function.name + '{value:<|"|>' + r.content + '<|"|>}<tool_response|>' -}}
      {%- set last.kind = 'result' -%}
    {%- endfor -%}
  {%- endfor -%}
  {%- if m.content -%}{{- m.content | trim -}}{%- endif -%}
  {%- if last.kind == 'call' -%}{{- '<|tool_response>' -}}
  {%- elif last.kind != 'result' -%}{{- '<turn|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and last.kind == '' -%}{{- '<|turn>model\\n' -}}{%- endif -%}
"""
)

GLM = (
    "{{- '[gMASK]<sop><|system|>\\n' -}}"
    + _TOOLS
    + """{%- for m in messages -%}
  {%- if m.role == 'assistant' -%}
    {{- '<|assistant|>\\n<think></think>' -}}
    {%- if m.content -%}{{- '\\n' + m.content -}}{%- endif -%}
    {%- for c in m.tool_calls or [] -%}
      {{- '\\n<tool_call>' + c.function.name + '\\n' -}}
      {%- for k, v in c.function.arguments.items() -%}
        {{- '<arg_key>' + k + '</arg_key>\\n<arg_value>' + v + '</arg_value>\\n' -}}
      {%- endfor -%}
      {{- '</tool_call>' -}}
    {%- endfor -%}
  {%- elif m.role == 'tool' -%}
    {%- if loop.previtem.role != 'tool' -%}{{- '<|observation|>' -}}{%- endif -%}
    {{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' -}}
  {%- else -%}{{- '<|' + m.role + '|>\\n' + m.content -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
{#- <|user|> -#}
"""
)

KIMI = (
    "{{- '<|im_system|>tools<|im_middle|>' -}}"
    + _TOOLS
    + """{{- '<|im_end|>' -}}
{%- for m in messages -%}
  {%- if m.role == 'tool' -%}
    {{- '<|im_system|>' + m.name + '<|im_middle|>## Return of ' + m.tool_call_id + '\\n' + m.content -}}
  {%- else -%}
    {{- '<|im_' + m.role + '|>' + m.role + '<|im_middle|>' + m.content -}}
    {%- if m.tool_calls -%}
      {{- '<|tool_calls_section_begin|>' -}}
      {%- for c in m.tool_calls -%}
        {{- '<|tool_call_begin|>functions.' + c.function.name + ':' + loop.index0 | string -}}
        {{- '<|tool_call_argument_begin|>' + (c.function.arguments | tojson) + '<|tool_call_end|>' -}}
      {%- endfor -%}
      {{- '<|tool_calls_section_end|>' -}}
    {%- endif -%}
  {%- endif -%}
  {{- '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_assistant|>assistant<|im_middle|>' -}}{%- endif -%}
"""
)

_MISTRAL = (
    "{{- '<s>[AVAILABLE_TOOLS]' -}}"
    + _TOOLS
    + """{{- '[/AVAILABLE_TOOLS]' -}}
{%- for m in messages -%}
  {%- if m.tool_calls -%}CALLS{{- '</s>' -}}
  {%- elif m.role == 'assistant' -%}{{- m.content + '</s>' -}}
  {%- elif m.role == 'tool' -%}
    {%- if m.tool_call_id | length != 9 -%}{{- raise_exception('ids have nine letters') -}}{%- endif -%}RESULT
  {%- elif m.role == 'user' -%}{{- '[INST]' + m.content + '[/INST]' -}}
  {%- else -%}{{- raise_exception('no such role') -}}{%- endif -%}
{%- endfor -%}
"""
)

MISTRAL = _MISTRAL.replace(
    "CALLS",
    """{%- for c in m.tool_calls -%}
      {{- '[TOOL_CALLS]' + c.function.name + '[CALL_ID]' + c.id + '[ARGS]' + (c.function.arguments | tojson) -}}
    {%- endfor -%}""",
).replace("RESULT", "{{- '[TOOL_RESULTS]' + m.tool_call_id + '[TOOL_CONTENT]' + m.content + '[/TOOL_RESULTS]' -}}")

MISTRAL_JSON = _MISTRAL.replace(
    "CALLS",
    """{{- '[TOOL_CALLS][' -}}
    {%- for c in m.tool_calls -%}
      {{- (', ' if not loop.first else '') + (c.function | tojson)[:-1] + ', "id": "' + c.id + '"}' -}}
    {%- endfor -%}{{- ']' -}}""",
).replace(
    "RESULT",
    """{{- '[TOOL_RESULTS]{"content": ' + m.content + ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' -}}""",
)

LFM2 = (
    "{{- '<|im_start|>system\\n<|tool_list_start|>' -}}"
    + _TOOLS
    + """{{- '<|tool_list_end|><|im_end|>\\n' -}}
{%- for m in messages -%}
  {{- '<|im_start|>' + m.role + '\\n' -}}
  {%- if m.role == 'tool' -%}{{- '<|tool_response_start|>' + m.content + '<|tool_response_end|>' -}}
  {%- else -%}{{- m.content -}}{%- endif -%}
  {%- if m.tool_calls -%}
    {{- '<|tool_call_start|>[' -}}
    {%- for c in m.tool_calls -%}
      {{- (', ' if not loop.first else '') + c.function.name + '(' -}}
      {%- for k, v in c.function.arguments.items() -%}{{- k + "='" + v + "'" -}}{%- endfor -%}
      {{- ')' -}}
    {%- endfor -%}
    {{- ']<|tool_call_end|>' -}}
  {%- endif -%}
  {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
)

MINIMAX = (
    "{{- ']~!b[]~b]system\\n' -}}"
    + _TOOLS
    + """{{- '[e~[\\n' -}}
{%- for m in messages -%}
  {%- if m.role == 'assistant' -%}
    {{- ']~b]ai\\n' + m.content -}}
    {%- if m.tool_calls -%}
      {{- ('\\n' if m.content else '') + '<minimax:tool_call>\\n' -}}
      {%- for c in m.tool_calls -%}
        {{- '<invoke name="' + c.function.name + '">\\n' -}}
        {%- for k, v in c.function.arguments.items() -%}
          {{- '<parameter name="' + k + '">' + v + '</parameter>\\n' -}}
        {%- endfor -%}
        {{- '</invoke>\\n' -}}
      {%- endfor -%}
      {{- '</minimax:tool_call>' -}}
    {%- endif -%}
    {{- '[e~[\\n' -}}
  {%- elif m.role == 'tool' -%}
    {%- if loop.previtem.role != 'tool' -%}{{- ']~b]tool' -}}{%- endif -%}
    {{- '\\n<response>' + m.content + '</response>' -}}
    {%- if loop.last or loop.nextitem.role != 'tool' -%}{{- '[e~[\\n' -}}{%- endif -%}
  {%- else -%}{{- ']~b]' + m.role + '\\n' + m.content + '[e~[\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ']~b]ai\\n<think>\\n' -}}{%- endif -%}
"""
)

_DEEPSEEK = (
    "{{- '<｜begin▁of▁sentence｜>' -}}"
    + _TOOLS
    + """{%- set last = namespace(tool=false) -%}
{%- for m in messages -%}
  {%- if m.role == 'user' -%}{{- '<｜User｜>' + m.content -}}
  {%- elif m.role == 'assistant' -%}
    {%- if not last.tool -%}{{- '<｜Assistant｜>THOUGHT' -}}{%- endif -%}
    {{- m.content -}}
    {%- if m.tool_calls -%}CALLS{%- endif -%}
    {{- '<｜end▁of▁sentence｜>' -}}
  {%- elif m.role == 'tool' -%}RESULT{%- endif -%}
  {%- set last.tool = m.role == 'tool' -%}
{%- endfor -%}
{%- if add_generation_prompt and not last.tool -%}{{- '<｜Assistant｜>GENERATED' -}}{%- endif -%}
"""
)
_SECTION = """{{- '<｜tool▁calls▁begin｜>' -}}
      {%- for c in m.tool_calls -%}CALL{%- endfor -%}
      {{- '<｜tool▁calls▁end｜>' -}}"""

DEEPSEEK_V31 = (
    _DEEPSEEK.replace("THOUGHT", "</think>")
    .replace("GENERATED", "<think>")
    .replace("CALLS", _SECTION)
    .replace(
        "CALL{%- endfor",
        """{{- '<｜tool▁call▁begin｜>' + c.function.name + '<｜tool▁sep｜>' -}}
        {{- c.function.arguments + '<｜tool▁call▁end｜>' -}}{%- endfor""",
    )
    .replace("RESULT", "{{- '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' -}}")
)

DEEPSEEK_V3 = (
    _DEEPSEEK.replace("THOUGHT", "")
    .replace("GENERATED", "")
    .replace("CALLS", _SECTION)
    .replace(
        "CALL{%- endfor",
        """{{- '<｜tool▁call▁begin｜>' + c.type + '<｜tool▁sep｜>' + c.function.name + '\\n```json\\n' -}}
        {{- c.function.arguments + '\\n```<｜tool▁call▁end｜>' -}}{%- endfor""",
    )
    .replace(
        "RESULT",
        """{%- if not last.tool -%}{{- '<｜tool▁outputs▁begin｜>' -}}{%- endif -%}
    {{- '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' -}}
    {%- if loop.last or loop.nextitem.role != 'tool' -%}{{- '<｜tool▁outputs▁end｜>' -}}{%- endif -%}""",
    )
)
"""Arguments are JSON in a string. The templates that V3 was published with leave marks out in a second round."""

DEEPSEEK_V4 = (
    _DEEPSEEK.replace("THOUGHT", "</think>")
    .replace("GENERATED", "<think>")
    .replace(
        "CALLS",
        """{{- '\\n\\n<｜DSML｜tool_calls>\\n' -}}
      {%- for c in m.tool_calls -%}
        {{- '<｜DSML｜invoke name="' + c.function.name + '">\\n' -}}
        {%- for k, v in c.function.arguments.items() -%}
          {{- '<｜DSML｜parameter name="' + k + '" string="true">' + v + '</｜DSML｜parameter>\\n' -}}
        {%- endfor -%}
        {{- '</｜DSML｜invoke>\\n' -}}
      {%- endfor -%}
      {{- '</｜DSML｜tool_calls>' -}}""",
    )
    .replace(
        "RESULT",
        """{%- if not last.tool -%}{{- '<｜User｜>' -}}{%- else -%}{{- '\\n\\n' -}}{%- endif -%}
    {{- '<tool_result>' + m.content + '</tool_result>' -}}
    {%- if loop.last or loop.nextitem.role != 'tool' -%}
      {{- '<｜Assistant｜>' + ('<think>' if loop.last else '</think>') -}}
    {%- endif -%}""",
    )
)


@dataclass(frozen=True)
class FamilyTemplate:
    """A template with its tokenizer's control tokens, and what is to be found out about it."""

    template: str
    notation: str
    call_end: str
    answer_end: str
    specials: tuple[str, ...]
    names_calls: bool = False


_IM = ("<|im_start|>",)
_SEEK = ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")
_SEEK_CALLS = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
)
_INST = ("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]")
_RESULTS = ("[TOOL_RESULTS]", "[/TOOL_RESULTS]")

TEMPLATES: Mapping[str, FamilyTemplate] = {
    "qwen xml": FamilyTemplate(
        QWEN_XML, "qwen_xml", "<|im_end|>", "<|im_end|>", (*_IM, "<tool_response>", "</tool_response>")
    ),
    "qwq": FamilyTemplate(QWQ, "hermes", "<|im_end|>", "<|im_end|>", _IM),
    "gpt-oss": FamilyTemplate(
        GPT_OSS,
        "gpt_oss",
        "<|call|>",
        "<|end|>",
        ("<|start|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|call|>", "<|end|>", "<|return|>"),
        names_calls=True,
    ),
    "gemma 4": FamilyTemplate(
        GEMMA_4,
        "gemma4",
        "<|tool_response>",
        "<turn|>",
        (
            "<bos>",
            "<|turn>",
            "<turn|>",
            "<|tool_call>",
            "<tool_call|>",
            "<|tool_response>",
            "<tool_response|>",
            '<|"|>',
        ),
        names_calls=True,
    ),
    "glm": FamilyTemplate(
        GLM,
        "glm",
        "<|observation|>",
        "<|user|>",
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<arg_key>", "</arg_key>"),
    ),
    "kimi": FamilyTemplate(
        KIMI,
        "kimi",
        "<|im_end|>",
        "<|im_end|>",
        (
            "<|im_system|>",
            "<|im_user|>",
            "<|im_assistant|>",
            "<|im_middle|>",
            "<|tool_calls_section_begin|>",
            "<|tool_calls_section_end|>",
            "<|tool_call_begin|>",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
        ),
        names_calls=True,
    ),
    "mistral": FamilyTemplate(
        MISTRAL,
        "mistral",
        "</s>",
        "</s>",
        (*_INST, *_RESULTS, "[CALL_ID]", "[ARGS]", "[TOOL_CONTENT]"),
        names_calls=True,
    ),
    "mistral json": FamilyTemplate(MISTRAL_JSON, "mistral_json", "</s>", "</s>", (*_INST, *_RESULTS), names_calls=True),
    "lfm2": FamilyTemplate(
        LFM2,
        "lfm2",
        "<|im_end|>",
        "<|im_end|>",
        (
            *_IM,
            "<|tool_list_start|>",
            "<|tool_list_end|>",
            "<|tool_call_start|>",
            "<|tool_call_end|>",
            "<|tool_response_start|>",
            "<|tool_response_end|>",
        ),
    ),
    "minimax": FamilyTemplate(
        MINIMAX,
        "minimax",
        "[e~[",
        "[e~[",
        ("]~!b[", "]~b]", "[e~[", "<minimax:tool_call>", "</minimax:tool_call>"),
    ),
    "deepseek v3": FamilyTemplate(DEEPSEEK_V3, "deepseek_v3", _SEEK[-1], _SEEK[-1], (*_SEEK, *_SEEK_CALLS)),
    "deepseek v3.1": FamilyTemplate(DEEPSEEK_V31, "deepseek_v31", _SEEK[-1], _SEEK[-1], (*_SEEK, *_SEEK_CALLS)),
    "deepseek v4": FamilyTemplate(DEEPSEEK_V4, "deepseek_v4", _SEEK[-1], _SEEK[-1], (*_SEEK, "｜DSML｜")),
}


def save_family_template(folder: Path, name: str) -> Any:
    """A small tokenizer with the control tokens and the template of the family."""
    from transformers import AutoTokenizer

    family = TEMPLATES[name]
    saved = save_with_template(folder, family.template, specials=family.specials, end=family.answer_end)
    return AutoTokenizer.from_pretrained(saved)
