"""A model that has learned a few answers by heart, so that what an engine makes of them can be tested."""

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

SEARCH: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds passages.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}

LESSONS = {
    "plain": "William Shakespeare wrote it.",
    "one": (
        '<think>Look.</think> I search.\n<tool_call>\n{"name": "search", "arguments": {"query": "café"}}\n</tool_call>'
    ),
    "two": (
        '<tool_call>\n{"name": "search", "arguments": {"query": "a"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "search", "parameters": {"query": "b"}}\n</tool_call>'
    ),
    "broken": 'Then\n<tool_call>\n{"name": "search", "arguments"\n</tool_call>',
    "open": 'Then\n<tool_call>\n{"name": "search", "arguments": {}}',
    "other": 'Or\n<tool_call>\n{"name": "fly", "arguments": {}}\n</tool_call>',
    "number": "A\n<tool_call>\n5\n</tool_call>",
    "narrow": '<tool_call>{"name": "search", "arguments": {}}</tool_call>',
    "seek": "<think>Look.</think>\n<search> café </search>",
    "given": "<answer> William Shakespeare </answer>",
}
"""What the model answers to a question of one word."""

_MARGIN = 1.0
_STEPS = 300


def question(tokenizer: PreTrainedTokenizerFast, word: str) -> list[int]:
    text = f"<|im_start|>user\n{word}<|im_end|>\n<|im_start|>assistant\n"
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def answer(tokenizer: PreTrainedTokenizerFast, word: str) -> list[int]:
    """The tokens that answer ``word``, with the one that ends a turn."""
    ids: list[int] = tokenizer.encode(LESSONS[word], add_special_tokens=False)
    return [*ids, tokenizer.eos_token_id]


def teach(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Trains until each token of each answer is the likeliest one by far.

    Raises:
        RuntimeError: that takes too long.
    """
    pairs = [(question(tokenizer, word), answer(tokenizer, word)) for word in LESSONS]
    width = max(len(asked) + len(said) for asked, said in pairs)
    tokens = torch.zeros(len(pairs), width, dtype=torch.long)
    labels = torch.full_like(tokens, -100)
    for row, (asked, said) in enumerate(pairs):
        tokens[row, : len(asked) + len(said)] = torch.tensor(asked + said)
        labels[row, len(asked) : len(asked) + len(said)] = torch.tensor(said)
    learned = labels[:, 1:] >= 0
    targets = labels[:, 1:][learned]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(_STEPS):
        logits = model(input_ids=tokens).logits[:, :-1][learned]
        best = logits.detach().topk(2)
        if (best.indices[:, 0] == targets).all() and (best.values[:, 0] - best.values[:, 1]).min() > _MARGIN:
            return
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, targets).backward()
        optimizer.step()
    raise RuntimeError(f"the answers were not learned in {_STEPS} steps")
