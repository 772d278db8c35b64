"""The alphabet of byte-level BPE, against the library's own."""

from tokenizers import pre_tokenizers

from slime_search.core.byte_alphabet import BYTE_OF


def test_it_is_the_alphabet_of_the_tokenizers_library() -> None:
    assert set(BYTE_OF) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_OF.values()) == list(range(256))


def test_text_spelled_in_it_is_its_utf_8() -> None:
    text = "naïve 東京\n🎉\x00"
    ((spelled, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    assert bytes(BYTE_OF[character] for character in spelled) == text.encode()
