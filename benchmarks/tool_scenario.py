"""The rollout of the tool-calling benchmark: two searches and an answer, in a chat template with tools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.scenario import SEARCHES, Script, build_scenario

_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for message in messages %}{% if message.role == 'tool' %}"
    "{% if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
    "\n<tool_response>\n{{ message.content }}\n</tool_response>"
    "{% if loop.last or messages[loop.index].role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% else %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    '\n<tool_call>\n{"name": {{ call.function.name | tojson }}, '
    '"arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CALL = '<tool_call>\n{"name": "search", "arguments": {"query": "%s"}}\n</tool_call>'


@dataclass(frozen=True, slots=True)
class ToolScenario:
    """``checkpoint`` is the folder of the tokenizer; all trajectories ask ``prompt``, a list of messages."""

    checkpoint: Path
    prompt: list[dict[str, str]]
    script: Script


def build_tool_scenario(folder: Path) -> ToolScenario:
    """The tokenizer and search results of the other scenario, with turns that call functions."""
    from transformers import AutoTokenizer

    plain = build_scenario(folder, trajectories=1)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = _TEMPLATE
    tokenizer.save_pretrained(folder)
    text = plain.prompts[0].partition("\n")[2].partition("<|im_end|>")[0]
    thought = " ".join(text.split()[:24])
    turns = [f"<think>\n{thought}\n</think>\n{_CALL % f'number {n}'}" for n in range(SEARCHES)]
    turns.append(f"<think>\n{thought}\n</think>\nthe answer")
    # Each result is in a message of its own, and a message more follows for the next turn.
    (end_id,) = tokenizer.encode("<|im_start|>", add_special_tokens=False)
    answers = tuple(_answer(turns[turn // 2], tokenizer) for turn in range(2 * len(turns)))
    begun = len([i for i in _rendered(tokenizer, text) if i == end_id]) - 1
    script = Script((answers[0],) * begun + answers, (f",{end_id},".encode(),), plain.script.search_results)
    return ToolScenario(folder, [{"role": "user", "content": text}], script)


def _rendered(tokenizer: Any, text: str) -> list[int]:
    from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS

    messages = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(messages, tools=TOOL_SCHEMAS, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer.encode(rendered, add_special_tokens=False)
    return ids


def _answer(text: str, tokenizer: Any) -> bytes:
    """What SGLang answers to a chat and to ``/generate``, in one; each client reads its part."""
    ids = tokenizer.encode(f"{text}<|im_end|>", add_special_tokens=False)
    rows = [[-1 / (3 + position % 7), i, None] for position, i in enumerate(ids)]
    meta = {
        "id": "6b1f0c0e5a7d4f5f9a35f4c1f3a0d2b7",
        "finish_reason": {"type": "stop", "matched": ids[-1]},
        "weight_version": "default",
        "completion_tokens": len(ids),
        "cached_tokens": 0,
        "output_token_logprobs": rows,
        "e2e_latency": 1.0,
    }
    entries = [{"token": "x", "bytes": [120], "logprob": row[0], "top_logprobs": []} for row in rows]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "tool_calls": None},
        "logprobs": {"content": entries},
        "finish_reason": "stop",
        "response_token_ids": ids,
        "meta_info": meta,
    }
    return orjson.dumps({"text": text, "output_ids": ids, "meta_info": meta, "choices": [choice], "usage": {}})
