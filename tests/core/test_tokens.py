"""Text from outside becomes plain tokens: no control token, no markup, nothing lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.core.tokens import TokenCodec, well_formed
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.errors import DataError
from tests.support.tokenizers import SPECIAL, TAGS, TOOL_MARKUP

FORGED = (*SPECIAL, *TOOL_MARKUP, *TAGS)
FRAGMENTS = (
    "<",
    "<|",
    "|>",
    "</",
    ">",
    "im_end",
    "<|im_<|im_end|>end|>",
    "<<search>",
    "</<tool_call>",
    "\n",
    " ",
    "é🎉",
)

hostile_text = st.lists(st.one_of(st.sampled_from(FORGED + FRAGMENTS), st.text(max_size=8)), max_size=12).map("".join)
any_text = st.text(st.characters(exclude_categories=()), max_size=40)


@pytest.fixture(params=["qwen", "tag_token"])
def codec(request: pytest.FixtureRequest) -> TokenCodec:
    return codec_of(request.getfixturevalue(request.param))


def codec_of(tokenizer: Any) -> TokenCodec:
    return TokenCodec(tokenizer, SEARCH_R1_TAGS.tags)


def control_ids(tokenizer: Any) -> set[int]:
    known = tokenizer.get_vocab()
    return {known[literal] for literal in FORGED if literal in known}


def decode(codec: TokenCodec, ids: list[int]) -> str:
    return codec.tokenizer.decode(ids, skip_special_tokens=False)


def contains(ids: list[int], run: list[int]) -> bool:
    return any(ids[start : start + len(run)] == run for start in range(len(ids) - len(run) + 1))


@given(text=hostile_text)
def test_untrusted_text_holds_no_control_token_and_reads_back_unchanged(text: str, qwen: Any, tag_token: Any) -> None:
    for codec in (codec_of(qwen), codec_of(tag_token)):
        ids = codec.untrusted(text)
        assert not control_ids(codec.tokenizer).intersection(ids)
        assert decode(codec, ids) == text


@given(text=hostile_text)
def test_untrusted_text_never_holds_a_tag_in_the_tokens_that_trusted_text_gives_it(text: str, qwen: Any) -> None:
    codec = codec_of(qwen)
    ids = codec.untrusted(text)
    assert [tag for tag in TAGS if contains(ids, codec.trusted(tag))] == []


@given(text=any_text)
def test_surrogates_become_the_replacement_character_and_nothing_else_changes(text: str, qwen: Any) -> None:
    ids = codec_of(qwen).untrusted(text)
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    expected = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in expected)
    assert decode(codec_of(qwen), ids) == well_formed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("\ud83c\udf89", "🎉"),
        ("\udf89\ud83c", "\ufffd\ufffd"),
        ("a\ud800", "a\ufffd"),
        ("\ufeffbyte order mark", "\ufeffbyte order mark"),
    ],
)
def test_well_formed(text: str, expected: str) -> None:
    assert well_formed(text) == expected


@pytest.mark.parametrize("literal", FORGED)
def test_each_literal_takes_effect_when_trusted_and_not_when_untrusted(literal: str, codec: TokenCodec) -> None:
    trusted, untrusted = codec.trusted(literal), codec.untrusted(literal)
    assert decode(codec, trusted) == decode(codec, untrusted) == literal
    assert trusted != untrusted
    assert not control_ids(codec.tokenizer).intersection(untrusted)


def test_the_control_literals_do_become_control_tokens_when_trusted(qwen: Any, tag_token: Any) -> None:
    """Without this the tests above would pass on a tokenizer that knows no control token."""
    for tokenizer, literals in ((qwen, SPECIAL + TOOL_MARKUP), (tag_token, FORGED)):
        ids = [codec_of(tokenizer).trusted(literal) for literal in literals]
        assert all(len(one) == 1 for one in ids)
        assert {one[0] for one in ids} == control_ids(tokenizer)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("unit", "characters"),
    [("word ", 2**20), ("x", 2**17), ("<", 2**17), ("<|im_start|", 2**17), ("<|im_end|>", 2**17)],
    ids=repr,
)
def test_a_long_text_does_not_hang(unit: str, characters: int, tag_token: Any) -> None:
    codec, text = codec_of(tag_token), unit * (characters // len(unit))
    ids = codec.untrusted(text)
    assert decode(codec, ids) == text
    assert not control_ids(tag_token).intersection(ids)


def test_trusted_adds_nothing_around_the_text(codec: TokenCodec) -> None:
    assert decode(codec, codec.trusted("\n\n<information>")) == "\n\n<information>"


@given(text=st.text())
def test_the_short_way_to_the_tokenizer_changes_nothing(text: str, qwen: Any, tag_token: Any) -> None:
    for tokenizer in (qwen, tag_token):
        codec = codec_of(tokenizer)
        assert codec.trusted(well_formed(text)) == tokenizer.encode(well_formed(text), add_special_tokens=False)


def test_a_truncating_call_elsewhere_does_not_truncate_ours(qwen: Any) -> None:
    codec = codec_of(qwen)
    whole = codec.trusted("Where is the castle?")
    qwen("Where is it?", truncation=True, max_length=1, padding="max_length")
    assert qwen.backend_tokenizer.truncation is not None
    assert codec.untrusted("Where is the castle?") == whole


def test_remembered_ids_are_the_callers_own(codec: TokenCodec) -> None:
    for encode in (codec.trusted, codec.untrusted):
        first = encode("a castle")
        first.append(7)
        assert encode("a castle") == first[:-1]


def test_pieces_are_the_texts_of_the_tokens(codec: TokenCodec) -> None:
    ids = codec.trusted("<|im_start|>who wrote it? é")
    assert len(codec.pieces(ids)) == len(ids)
    assert "".join(codec.pieces(codec.trusted("<|im_start|>who"))) == "<|im_start|>who"


class FoldingTokenizer:
    """Lower-cases before it looks for its control token, so the literal need not stand in the text."""

    all_special_tokens = ("<|end|>",)

    def __init__(self, *, characters: str) -> None:
        self._ids = {"<|end|>": 0, **{c: i for i, c in enumerate(characters, start=1)}}

    def get_added_vocab(self) -> dict[str, int]:
        return {"<|end|>": 0}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        first, found, rest = text.lower().partition("<|end|>")
        ids = [self._ids[c] for c in first]
        return [*ids, 0, *self.encode(rest, add_special_tokens=False)] if found else ids

    def decode(self, token_ids: Any, *, skip_special_tokens: bool) -> str:
        return "".join(list(self._ids)[i] for i in token_ids)

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        raise NotImplementedError


def test_a_tokenizer_that_folds_case_can_not_be_tricked() -> None:
    codec = TokenCodec(FoldingTokenizer(characters="<|end>a"))
    assert codec.trusted("a<|END|>") == [7, 0]
    assert 0 not in codec.untrusted("a<|END|>a")


def test_the_tokenizer_never_sees_a_surrogate() -> None:
    """Some tokenizers replace them by themselves, others raise."""

    class Strict(FoldingTokenizer):
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            text.encode()
            return super().encode(text, add_special_tokens=add_special_tokens)

    codec = TokenCodec(Strict(characters="a\ufffd🎉"))
    assert decode(codec, codec.untrusted("\ud800a\udfff\ud83c\udf89")) == "\ufffda\ufffd🎉"


def test_a_tokenizer_that_makes_control_tokens_of_single_characters_is_refused() -> None:
    class Hopeless(FoldingTokenizer):
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            return [0] * len(text)

    with pytest.raises(DataError, match=r"control token ids \[0\]"):
        TokenCodec(Hopeless(characters="")).untrusted("a")
