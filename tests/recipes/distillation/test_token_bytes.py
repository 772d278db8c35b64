"""What a token stands for, read from real vocabularies of several kinds."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from slime_search.errors import ConfigError
from slime_search.recipes.distillation.token_bytes import TokenBytes
from tests.support.teacher_tokenizers import KINDS, MARKUP, save_kind

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
@example(text="<think>")
@example(text="a<think>b")
def test_the_tokens_of_a_text_stand_for_its_bytes(kind: str, text: str, kinds: dict[str, Any]) -> None:
    tokenizer = kinds[kind]
    found = b"".join(token_bytes(tokenizer).of(tokenizer.encode(text, add_special_tokens=False)))
    if kind == "byte-level, NFC":
        text = unicodedata.normalize("NFC", text)
    if kind.startswith("sentencepiece"):
        # It writes blanks as ▁, so the two are one.
        text = text.replace("▁", " ")
    if kind == "sentencepiece, dummy prefix":
        # It puts a word boundary before all text that begins, also behind an added token.
        added = "|".join(map(re.escape, sorted(tokenizer.get_added_vocab(), key=len, reverse=True)))
        text = re.sub(
            f"({added})|(.+?)(?={added}|\\Z)", lambda found: found[1] or f" {found[2]}", text, flags=re.DOTALL
        )
    assert found == text.encode()


_made: dict[int, TokenBytes] = {}


def token_bytes(tokenizer: Any) -> TokenBytes:
    return _made.setdefault(id(tokenizer), TokenBytes(tokenizer))


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_has_a_token_and_parts_of_characters_are_bytes(kind: str, kinds: dict[str, Any]) -> None:
    """A model may sample any of them, in whatever order."""
    tokenizer = kinds[kind]
    every = dict(zip(range(len(tokenizer)), TokenBytes(tokenizer).of(range(len(tokenizer))), strict=True))
    assert {bytes([byte]) for byte in range(256)} <= set(every.values())
    halves = TokenBytes(tokenizer).of([i for i, own in every.items() if own in (b"\xe6", b"\x9d", b"\xb1")])
    assert sorted(set(halves)) == sorted({b"\xe6", b"\x9d", b"\xb1"})


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_stand_for_nothing_and_added_ones_for_themselves(kind: str, kinds: dict[str, Any]) -> None:
    tokenizer = kinds[kind]
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<tool_call>", "</think>")]
    found = TokenBytes(tokenizer)
    assert found.of(ids) == [b"", b"<tool_call>", b"</think>"]
    assert [found.special(i) for i in ids] == ["<|im_end|>", None, None]
    assert found.of([10**6]) == [b""]


def test_markup_that_is_a_special_token_is_text_all_the_same(tmp_path: Path) -> None:
    """``add_special_tokens`` makes it one. A teacher that did not see it would read other turns than were written."""
    added = [*MARKUP, "search("]
    tokenizer = AutoTokenizer.from_pretrained(save_kind(tmp_path, "byte-level", markup=(), special_markup=added))
    text = "<think>I look</think><tool_call>search(it</tool_call><|im_end|>"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert {tokenizer.convert_tokens_to_ids(token) for token in added} < set(ids)
    found = TokenBytes(tokenizer, MARKUP)
    assert b"".join(found.of(ids)).decode() == text.removesuffix("<|im_end|>")
    assert [found.special(i) for i in ids if found.special(i)] == ["<|im_end|>"]
    assert b"<think>" not in TokenBytes(tokenizer).of(ids)


def test_a_kind_that_loses_bytes_is_refused() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"[UNK]": 0, "Where": 1}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    with pytest.raises(ConfigError, match="its decoder is WordPiece"):
        TokenBytes(PreTrainedTokenizerFast(tokenizer_object=core))
    core.decoder = decoders.ByteLevel()
    with pytest.raises(ConfigError, match="stand for"):
        TokenBytes(PreTrainedTokenizerFast(tokenizer_object=core))


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        name_or_path = "slow"

    with pytest.raises(ConfigError, match=r"tokenizer slow: .*not a fast tokenizer"):
        TokenBytes(Slow())
