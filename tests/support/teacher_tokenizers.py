"""Tokenizers of the kinds that teachers have, each with a vocabulary of its own, in folders for AutoTokenizer."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.support.chat_templates import FAMILIES
from tests.support.tokenizers import SPECIAL

CORPUS = [
    "I should look up who made this thing before I answer the question, since I am not sure about its maker.",
    'search {"name": "search", "arguments": {"query": "thing maker"}} think tool call answer response',
    "The passage says that it was made by a name long ago. Doc 1(Title: About thing) naïve 東京 café",
] * 3
MARKUP = ("<tool_call>", "</tool_call>", "<think>", "</think>")


def byte_level(*, vocabulary: int, seed_text: str = "", nfc: bool = False, digits: bool = False) -> Tokenizer:
    """As Qwen and Llama 3 have it; ``nfc`` composes accents before, as Qwen's does, ``digits`` cuts numbers up."""
    core = Tokenizer(models.BPE())
    if nfc:
        core.normalizer = normalizers.NFC()
    byte_pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not digits)
    cut = [pre_tokenizers.Split(Regex(r"\d| ?[^\s\d]+|\s+"), "isolated")] if digits else []
    core.pre_tokenizer = pre_tokenizers.Sequence([*cut, byte_pieces])
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([*CORPUS, seed_text], trainer)
    return core


def sentencepiece(*, dummy_prefix: bool) -> Tokenizer:
    """Pieces with ``▁`` for a blank, and bytes for what they lack: Llama 2 (with a blank before all text) and Gemma."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Replace(" ", "▁")
    letters = list("▁abcdefghijklmnopqrstuvwxyzISTD")
    trainer = trainers.BpeTrainer(vocab_size=150, initial_alphabet=letters, limit_alphabet=32, show_progress=False)
    core.train_from_iterator(CORPUS, trainer)
    learned = json.loads(core.to_str())["model"]
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    merges = [tuple(pair) for pair in learned["merges"]]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    whole = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    before = [normalizers.Prepend("▁")] if dummy_prefix else []
    whole.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if dummy_prefix else []
    whole.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return whole


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": lambda: byte_level(vocabulary=500),
    "byte-level, other cuts": lambda: byte_level(vocabulary=330, digits=True),
    "byte-level, NFC": lambda: byte_level(vocabulary=400, nfc=True),
    "sentencepiece": lambda: sentencepiece(dummy_prefix=False),
    "sentencepiece, dummy prefix": lambda: sentencepiece(dummy_prefix=True),
}


def save_kind(
    folder: Path,
    kind: str,
    *,
    family: str = "qwen3",
    markup: Iterable[str] = MARKUP,
    special_markup: Iterable[str] = (),
) -> Path:
    """A tokenizer of this kind with the chat template and special tokens of ``family``."""
    chat = FAMILIES[family]
    core = KINDS[kind]()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in chat.specials or SPECIAL])
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special_markup])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in markup])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=chat.end, pad_token=chat.end, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = chat.template
    tokenizer.save_pretrained(folder)
    return folder
