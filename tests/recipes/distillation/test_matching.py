"""Runs of equal bytes, through what tokenizers and decoders do to a text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.recipes.distillation.alignment import Run, chained, normalised, readable

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
some_bytes = st.lists(st.one_of(texts.map(str.encode), st.binary(max_size=4)), max_size=5).map(b"".join)


def same_bytes(runs: list[Run], one: bytes, other: bytes) -> bool:
    return all(one[r.student : r.student + r.length] == other[r.teacher : r.teacher + r.length] for r in runs)


def covered(runs: list[Run]) -> set[int]:
    return {byte for run in runs for byte in range(run.student, run.student + run.length)}


@given(some_bytes)
def test_whatever_was_sampled_can_be_read(data: bytes) -> None:
    text, runs = readable(data)
    assert text == data.decode(errors="replace")
    assert same_bytes(runs, data, text.encode())
    assert sum(run.length for run in runs) == len(data.decode(errors="ignore").encode())


@given(texts)
def test_composed_accents_match_nothing_and_the_rest_does(text: str) -> None:
    composed = unicodedata.normalize("NFC", text)
    runs = normalised(text, composed.encode(), lambda piece: unicodedata.normalize("NFC", piece))
    assert same_bytes(runs, text.encode(), composed.encode())
    if text == composed:
        assert covered(runs) == set(range(len(text.encode())))


def test_the_neighbours_of_a_composed_accent_match() -> None:
    runs = normalised("ae\u0301b", "aéb".encode(), lambda piece: unicodedata.normalize("NFC", piece))
    assert runs == [Run(0, 0, 1), Run(4, 3, 1)]


def test_a_text_that_became_another_matches_nothing() -> None:
    assert normalised("abc", b"xyz", lambda piece: piece) == []


@st.composite
def maps(draw: st.DrawFn) -> list[Run]:
    runs, one, other = [], draw(st.integers(0, 3)), draw(st.integers(0, 3))
    for _ in range(draw(st.integers(0, 4))):
        runs.append(Run(one, other, draw(st.integers(1, 6))))
        one += runs[-1].length + draw(st.integers(0, 3))
        other += runs[-1].length + draw(st.integers(0, 3))
    return runs


@given(maps(), maps())
def test_a_chain_leads_where_its_links_do(first: list[Run], second: list[Run]) -> None:
    def as_dict(runs: list[Run]) -> dict[int, int]:
        return {run.student + n: run.teacher + n for run in runs for n in range(run.length)}

    onward = as_dict(second)
    expected = {start: onward[between] for start, between in as_dict(first).items() if between in onward}
    assert as_dict(chained(first, second)) == expected


@pytest.mark.parametrize("data", [b"\xe6\x9d", b"a\xe6\x9d\xb1\xe6", b"\xff" * 50])
def test_half_a_character_is_no_text(data: bytes) -> None:
    text, runs = readable(data)
    assert "\ufffd" in text
    assert len(covered(runs)) == len(data.decode(errors="ignore").encode())
