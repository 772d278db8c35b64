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


def _save(folder: Path, *, specials: tuple[str, ...], added: tuple[str, ...]) -> Path:
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
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder
