"""Small real byte-level BPE tokenizers, saved in a folder from which AutoTokenizer loads them."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOOL_MARKUP = ("<tool_call>", "</tool_call>")
TAGS = tuple(f"<{slash}{name}>" for name in ("think", "search", "information", "answer") for slash in ("", "/"))

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TOOLS_TEMPLATE = r"""{%- if tools -%}
  {{- "<|im_start|>system\n" -}}
  {%- if messages[0].role == "system" -%}{{- messages[0].content + "\n\n" -}}{%- endif -%}
  {{- "Tools:\n" -}}
  {%- for tool in tools -%}{{- tool | tojson + "\n" -}}{%- endfor -%}
  {{- "Call one by <tool_call> and </tool_call> around its name and arguments.<|im_end|>\n" -}}
{%- elif messages[0].role == "system" -%}
  {{- "<|im_start|>system\n" + messages[0].content + "<|im_end|>\n" -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role == "tool" -%}
    {%- if messages[loop.index0 - 1].role != "tool" -%}{{- "<|im_start|>user" -}}{%- endif -%}
    {{- "\n<tool_response>\n" + message.content + "\n</tool_response>" -}}
    {%- if loop.last or messages[loop.index].role != "tool" -%}{{- "<|im_end|>\n" -}}{%- endif -%}
  {%- elif message.role != "system" or not loop.first -%}
    {{- "<|im_start|>" + message.role + "\n" + message.content -}}
    {%- for call in message.tool_calls or [] -%}
      {{- '\n<tool_call>\n{"name": ' + call.function.name | tojson -}}
      {{- ', "arguments": ' + call.function.arguments | tojson + "}\n</tool_call>" -}}
    {%- endfor -%}
    {{- "<|im_end|>\n" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\n" -}}{%- endif -%}
{%- if enable_thinking is false -%}{{- "<think>\n\n</think>\n\n" -}}{%- endif -%}
"""
"""Like the templates of Qwen's models, with fewer words."""

_CORPUS = [
    "<think> I need to look this up. </think>\n<search> who wrote the book </search>",
    "\n\n<information>Doc 1(Title: Hamlet) Hamlet is a tragedy written by William Shakespeare.\n</information>\n\n",
    "<think> The passage says it. </think>\n<answer> William Shakespeare </answer>",
    "user assistant Question: Who wrote the tragedy of the prince? Answer the question with a search engine.",
    "My previous action is invalid. Let me try again.\n",
]


def save_qwen_like(folder: Path) -> Path:
    """Chat markers are special tokens, the tool markup is added but not special, the tags are plain text."""
    return _save(folder, specials=SPECIAL, added=TOOL_MARKUP)


def save_with_tag_tokens(folder: Path) -> Path:
    """Like ``save_qwen_like``, and every tag is a special token."""
    return _save(folder, specials=(*SPECIAL, *TAGS), added=TOOL_MARKUP)


def save_with_tools_template(folder: Path) -> Path:
    """Like ``save_qwen_like``, with a chat template for tools; the thinking tags are added but not special, too."""
    return _save(folder, specials=SPECIAL, added=(*TOOL_MARKUP, "<think>", "</think>"), template=TOOLS_TEMPLATE)


def _save(folder: Path, *, specials: tuple[str, ...], added: tuple[str, ...], template: str = CHAT_TEMPLATE) -> Path:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=520, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
        ),
    )
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[t for t in specials if t not in ("<|im_end|>", "<|endoftext|>")],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder
