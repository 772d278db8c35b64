"""Untrusted text with tokenizers of several kinds: control tokens of any form, word boundaries, HTML."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from slime_search.core.tokens import TokenCodec, control_tokens, well_formed
from slime_search.errors import DataError
from tests.support.teacher_tokenizers import sentencepiece
from tests.support.tokenizers import save_qwen_like

ODD = ("]~!b[", "[e~[", "｜DSML｜", "placeholder▁token")
HTML_TAGS = ("<table>", "</table>", "<td>", "<b>")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Control tokens of no common form, HTML's tags, a run of blanks; some of them in its template."""
    tokenizer: Any = AutoTokenizer.from_pretrained(save_qwen_like(tmp_path_factory.mktemp("odd")))
    for token in (*ODD, *HTML_TAGS, "    "):
        tokenizer.add_tokens([AddedToken(token, normalized=False, special=False)])
    tokenizer.chat_template = "{{ ']~!b[' }}{% for m in messages %}{{ m.content + '[e~[｜DSML｜' }}{% endfor %}"
    return tokenizer


def test_control_tokens_are_told_by_flag_template_and_form(odd: Any) -> None:
    expected = {"<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>"}
    assert set(control_tokens(odd)) == expected | {"]~!b[", "[e~[", "｜DSML｜"}


def test_without_a_template_every_added_token_that_is_not_blank_is_one(odd: Any) -> None:
    template, odd.chat_template = odd.chat_template, None
    try:
        assert set(control_tokens(odd)) >= {*ODD, *HTML_TAGS}
        assert "    " not in control_tokens(odd)
    finally:
        odd.chat_template = template


def test_of_several_templates_each_counts(odd: Any) -> None:
    template, odd.chat_template = odd.chat_template, {"default": odd.chat_template, "other": "placeholder▁token"}
    try:
        assert "placeholder▁token" in control_tokens(odd)
    finally:
        odd.chat_template = template


def test_html_keeps_its_tokens(odd: Any) -> None:
    text = "<table><td>a <b>\n    x</td></table>"
    assert TokenCodec(odd).untrusted(text) == odd.encode(text, add_special_tokens=False)


pieces = st.sampled_from([*ODD, *(one[1:] for one in ODD), *(one[:-1] for one in ODD), "<|im_end|>", "x", " ", "\n"])
texts = st.lists(pieces | st.text(max_size=4), max_size=8).map("".join)


@given(before=st.sampled_from(["", "\n", "<", "]~"]), text=texts, after=st.sampled_from(["", "\n", ">", "[", "~["]))
def test_nothing_is_forged_across_a_seam(before: str, text: str, after: str, odd: Any) -> None:
    codec = TokenCodec(odd)
    ids = codec.between(before, text, after)
    assert codec.control_ids.isdisjoint(ids)
    assert odd.decode(ids) == before + well_formed(text) + after


def test_where_nothing_is_forged_the_whole_is_encoded_as_one(odd: Any) -> None:
    codec = TokenCodec(odd)
    assert codec.between(" the", " book", " of") == odd.encode(" the book of", add_special_tokens=False)
    assert codec.between("\n", "Hamlet.", "\n") == odd.encode("\nHamlet.\n", add_special_tokens=False)


@pytest.fixture(scope="module")
def dummy_prefix() -> Any:
    core = sentencepiece(dummy_prefix=True)
    core.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", clean_up_tokenization_spaces=False)


@given(texts=st.lists(st.text("abcde <|end>\n", max_size=8), min_size=1, max_size=4))
def test_no_word_boundary_is_put_inside_a_context(texts: list[str], dummy_prefix: Any) -> None:
    codec = TokenCodec(dummy_prefix)
    ids = codec.prompt("ab") + [i for text in texts for i in codec.untrusted(text)] + codec.trusted("cd")
    assert dummy_prefix.decode(ids) == "ab" + "".join(texts) + "cd"


def test_a_prompt_and_what_follows_a_control_token_keep_the_tokenizers_own_boundary(dummy_prefix: Any) -> None:
    codec = TokenCodec(dummy_prefix)
    assert codec.prompt("ab") == dummy_prefix.encode("ab", add_special_tokens=False)
    assert codec.prompt("ab") != codec.trusted("ab")
    head, ids, tail = codec.split_at_controls("a<|end|>b")
    whole = [*codec.trusted(head), *ids, *codec.between(tail, "c", "")]
    assert whole == [*codec.trusted("a"), *dummy_prefix.encode("<|end|>bc", add_special_tokens=False)]


def test_a_tokenizer_that_can_not_go_on_inside_a_text_is_refused(tmp_path: Path) -> None:
    class Joining:
        """Puts a blank before each text, and makes one token of a line end and what follows."""

        all_special_tokens: tuple[str, ...] = ()
        chat_template = None

        def get_added_vocab(self) -> dict[str, int]:
            return {}

        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            return [ord(c) for c in " " + text] if "\n" not in text else [ord(text[-1]) + 2**16 * len(text)]

        def decode(self, token_ids: Any, *, skip_special_tokens: bool) -> str:
            return "".join(chr(i) for i in token_ids if i < 2**16).removeprefix(" ")

        def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(DataError, match="legacy=False"):
        TokenCodec(Joining())
