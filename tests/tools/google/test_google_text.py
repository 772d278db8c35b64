"""From a page's bytes to the text around a snippet."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.tools.google.text import decode, select, text_around

RUSSIAN = "Мост был построен в 1185 году, а его арки стоят до сих пор. " * 5
JAPANESE = "アヴィニョンの橋は一一八五年に建てられました。" * 8


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("Rhône".encode(), None, "Rhône"),
        ("Rhône".encode(), "iso-8859-1", "Rhône"),
        ("Rhône".encode("latin-1"), "iso-8859-1", "Rhône"),
        ("Rhône".encode("utf-16"), "iso-8859-1", "Rhône"),
        (b"\xef\xbb\xbfRh\xc3\xb4ne", None, "\ufeffRhône"),
        (b"<meta charset='windows-1251'>" + RUSSIAN.encode("windows-1251"), None, RUSSIAN),
        (b'<meta http-equiv=x content="text/html; charset=Shift_JIS">' + JAPANESE.encode("shift_jis"), None, JAPANESE),
        (RUSSIAN.encode("windows-1251"), "utf-8", RUSSIAN),
        (JAPANESE.encode("euc_jp"), None, JAPANESE),
        ("Rhône".encode()[:3], None, "Rh"),
    ],
)
def test_charsets(body: bytes, charset: str | None, text: str) -> None:
    assert decode(body, charset).endswith(text.removeprefix("\ufeff"))


@given(st.binary(max_size=300), st.sampled_from([None, "utf-8", "zlib", "hex", "punycode", "x" * 30, "utf-16", ""]))
def test_any_bytes_are_some_text(body: bytes, charset: str | None) -> None:
    assert isinstance(decode(body, charset), str)


def test_the_paragraphs_of_the_snippet_in_the_pages_order() -> None:
    page = ["Home", "Second: seven blue whales sang.", "Nothing here.", "First: two red foxes ran.", "The end."]
    text = select(page, "two red foxes ran ... seven blue whales sang", 200)
    assert text == "Second: seven blue whales sang.\nFirst: two red foxes ran."


def test_a_long_paragraph_is_cut_at_sentences() -> None:
    filler = "This sentence is only here to fill the paragraph with words. " * 20
    text = select([filler + "Seven blue whales sang. " + filler], "seven blue whales sang", 100)
    assert text == "Seven blue whales sang."


def test_a_page_without_the_snippet_is_no_source() -> None:
    assert select(["Accept all cookies.", "Sign in."], "seven blue whales sang in the sea", 100) == ""
    assert select(["Something"], "", 100) == ""
    assert text_around(b"<p>Accept all cookies.</p>", None, False, "seven blue whales sang", 100) == ""


words = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=8), max_size=40).map(" ".join)


@given(st.lists(words, max_size=12), words, st.integers(20, 200))
def test_the_choice_is_bounded_and_of_the_page(paragraphs: list[str], snippet: str, max_chars: int) -> None:
    text = select(paragraphs, snippet, max_chars)
    assert len(text) <= max_chars
    for line in filter(None, text.split("\n")):
        assert any(line in paragraph for paragraph in paragraphs)


@given(st.lists(words, min_size=1, max_size=12), st.data())
def test_a_snippet_finds_its_paragraph(paragraphs: list[str], data: Any) -> None:
    origin = data.draw(st.sampled_from(paragraphs))
    best = set(origin.split())
    text = select(paragraphs, origin, 10_000)
    assert not best or best <= set(text.split())
