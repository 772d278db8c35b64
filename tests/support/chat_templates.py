"""Chat templates in the manner of four model families, with fewer words, on small tokenizers that have their tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.tokenizers import save_with_tools_template

QWEN_2_5 = """\
{%- if tools -%}
  {{- "<|im_start|>system\\n" -}}
  {{- messages[0].content if messages[0].role == "system" else "You are helpful." -}}
  {{- "\\n\\n# Tools\\n<tools>" -}}
  {%- for tool in tools -%}{{- "\\n" + (tool | tojson) -}}{%- endfor -%}
  {{- "\\n</tools>\\nCall by <tool_call> around name and arguments.<|im_end|>\\n" -}}
{%- elif messages[0].role == "system" -%}
  {{- "<|im_start|>system\\n" + messages[0].content + "<|im_end|>\\n" -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role == "tool" -%}
    {%- if loop.first or loop.previtem.role != "tool" -%}{{- "<|im_start|>user" -}}{%- endif -%}
    {{- "\\n<tool_response>\\n" + message.content + "\\n</tool_response>" -}}
    {%- if loop.last or loop.nextitem.role != "tool" -%}{{- "<|im_end|>\\n" -}}{%- endif -%}
  {%- elif message.role == "assistant" -%}
    {{- "<|im_start|>assistant" -}}
    {%- if message.content -%}{{- "\\n" + message.content -}}{%- endif -%}
    {%- for call in message.tool_calls or [] -%}
      {{- "\\n<tool_call>\\n{\\"name\\": \\"" + call.function.name + "\\", \\"arguments\\": " -}}
      {{- call.function.arguments | tojson + "}\\n</tool_call>" -}}
    {%- endfor -%}
    {{- "<|im_end|>\\n" -}}
  {%- elif not (loop.first and message.role == "system") -%}
    {{- "<|im_start|>" + message.role + "\\n" + message.content + "<|im_end|>\\n" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""

QWEN_3 = """\
{%- if tools -%}
  {{- "<|im_start|>system\\n" -}}
  {%- if messages[0].role == "system" -%}{{- messages[0].content + "\\n\\n" -}}{%- endif -%}
  {{- "# Tools\\n<tools>" -}}
  {%- for tool in tools -%}{{- "\\n" + (tool | tojson) -}}{%- endfor -%}
  {{- "\\n</tools>\\nCall by <tool_call> around name and arguments.<|im_end|>\\n" -}}
{%- elif messages[0].role == "system" -%}
  {{- "<|im_start|>system\\n" + messages[0].content + "<|im_end|>\\n" -}}
{%- endif -%}
{%- set last = namespace(query=0) -%}
{%- for message in messages -%}
  {%- if message.role == "user" and not message.content.startswith("<tool_response>") -%}
    {%- set last.query = loop.index0 -%}
  {%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
  {%- if message.role == "assistant" -%}
    {%- set said = message.content.split("</think>")[-1].lstrip("\\n") -%}
    {%- set thought = "" -%}
    {%- if "</think>" in message.content -%}
      {%- set thought = message.content.split("</think>")[0].split("<think>")[-1].strip("\\n") -%}
    {%- endif -%}
    {{- "<|im_start|>assistant\\n" -}}
    {%- if loop.index0 > last.query and (loop.last or thought) -%}
      {{- "<think>\\n" + thought + "\\n</think>\\n\\n" -}}
    {%- endif -%}
    {{- said -}}
    {%- for call in message.tool_calls or [] -%}
      {%- if said or not loop.first -%}{{- "\\n" -}}{%- endif -%}
      {{- "<tool_call>\\n{\\"name\\": \\"" + call.function.name + "\\", \\"arguments\\": " -}}
      {{- call.function.arguments | tojson + "}\\n</tool_call>" -}}
    {%- endfor -%}
    {{- "<|im_end|>\\n" -}}
  {%- elif message.role == "tool" -%}
    {%- if loop.first or loop.previtem.role != "tool" -%}{{- "<|im_start|>user" -}}{%- endif -%}
    {{- "\\n<tool_response>\\n" + message.content + "\\n</tool_response>" -}}
    {%- if loop.last or loop.nextitem.role != "tool" -%}{{- "<|im_end|>\\n" -}}{%- endif -%}
  {%- elif not (loop.first and message.role == "system") -%}
    {{- "<|im_start|>" + message.role + "\\n" + message.content + "<|im_end|>\\n" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- "<|im_start|>assistant\\n" -}}
  {%- if enable_thinking is defined and enable_thinking is false -%}{{- "<think>\\n\\n</think>\\n\\n" -}}{%- endif -%}
{%- endif -%}
"""

LLAMA_3 = """\
{%- macro head(role) -%}{{- "<|start_header_id|>" + role + "<|end_header_id|>\\n\\n" -}}{%- endmacro -%}
{{- "<|begin_of_text|>" + head("system") + "Knowledge ends in 2023.\\n\\n" -}}
{%- if messages[0].role == "system" -%}
  {{- messages[0].content | trim -}}
  {%- set messages = messages[1:] -%}
{%- endif -%}
{{- "<|eot_id|>" -}}
{%- for message in messages -%}
  {%- if message.role in ("tool", "ipython") -%}
    {{- head("ipython") -}}
    {%- if message.content is mapping or message.content is iterable -%}
      {{- message.content | tojson -}}
    {%- else -%}
      {{- message.content -}}
    {%- endif -%}
    {{- "<|eot_id|>" -}}
  {%- elif message.tool_calls -%}
    {%- if message.tool_calls | length != 1 -%}{{- raise_exception("one call at a time") -}}{%- endif -%}
    {%- set call = message.tool_calls[0].function -%}
    {{- head("assistant") + "{\\"name\\": \\"" + call.name + "\\", \\"parameters\\": " -}}
    {{- call.arguments | tojson + "}<|eot_id|>" -}}
  {%- else -%}
    {{- head(message.role) -}}
    {%- if loop.first and tools -%}
      {{- "Given these functions, answer with the JSON of a call.\\n\\n" -}}
      {%- for tool in tools -%}{{- (tool | tojson(indent=4)) + "\\n\\n" -}}{%- endfor -%}
    {%- endif -%}
    {{- (message.content | trim) + "<|eot_id|>" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- head("assistant") -}}{%- endif -%}
"""

GEMMA = """\
{{- "<bos>" -}}
{%- if messages[0].role == "system" -%}{{- raise_exception("no system role") -}}{%- endif -%}
{%- for message in messages -%}
  {%- if (message.role == "user") != (loop.index0 % 2 == 0) -%}
    {{- raise_exception("roles must alternate") -}}
  {%- endif -%}
  {{- "<start_of_turn>" + ("model" if message.role == "assistant" else message.role) + "\\n" -}}
  {{- (message.content | trim) + "<end_of_turn>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<start_of_turn>model\\n" -}}{%- endif -%}
"""


@dataclass(frozen=True)
class Family:
    """``begin`` opens the model's turn, ``end`` closes it."""

    template: str
    begin: str
    end: str
    specials: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


FAMILIES: Mapping[str, Family] = {
    "qwen2.5": Family(QWEN_2_5, "<|im_start|>assistant\n", "<|im_end|>"),
    "qwen3": Family(QWEN_3, "<|im_start|>assistant\n", "<|im_end|>", added=("<tool_response>", "</tool_response>")),
    "llama3": Family(
        LLAMA_3,
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "gemma": Family(GEMMA, "<start_of_turn>model\n", "<end_of_turn>", ("<bos>", "<start_of_turn>", "<end_of_turn>")),
}


def save_family(folder: Path, name: str) -> Path:
    """A tokenizer with the control tokens and the template of the family."""
    family = FAMILIES[name]
    return save_with_template(folder, family.template, specials=family.specials, added=family.added, end=family.end)


def save_with_template(
    folder: Path,
    template: str,
    *,
    specials: tuple[str, ...] = (),
    added: tuple[str, ...] = (),
    end: str = "<|im_end|>",
) -> Path:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(save_with_tools_template(folder))
    if specials:
        kept = [t for t in tokenizer.all_special_tokens if t not in (tokenizer.eos_token, tokenizer.pad_token)]
        tokenizer.add_special_tokens({"additional_special_tokens": [*kept, *specials]})
    tokenizer.add_tokens(list(added))
    tokenizer.eos_token = end
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder
