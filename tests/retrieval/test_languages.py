"""What BM25 makes of words: Lucene's EnglishAnalyzer unless another language is named, on both sides alike.

Expectations are those of Lucene's documentation: EnglishAnalyzer's stop words, EnglishPossessiveFilter,
LowerCaseFilter, and the stems of Porter's paper (Program 14, 1980) with the departures that PorterStemFilter makes.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.collection import RetrieverSettings
from slime_search.retrieval.words import Language, split_words, splitter_of
from tests.retrieval.retrieval_process import Server

pytest.importorskip("Stemmer", reason="needs the extra: bm25")

STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
STEMS = {
    "caresses": "caress",
    "ponies": "poni",
    "ties": "ti",
    "cats": "cat",
    "feed": "feed",
    "agreed": "agre",
    "plastered": "plaster",
    "motoring": "motor",
    "sing": "sing",
    "conflated": "conflat",
    "hopping": "hop",
    "falling": "fall",
    "filing": "file",
    "happy": "happi",
    "sky": "sky",
    "relational": "relat",
    "digitizer": "digit",
    "vietnamization": "vietnam",
    "decisiveness": "decis",
    "triplicate": "triplic",
    "electrical": "electr",
    "hopefulness": "hope",
    "allowance": "allow",
    "adjustment": "adjust",
    "probate": "probat",
    "controlling": "control",
}
DEPARTURES = {
    "us": "us",
    "as1": "as1",
    "possibly": "possibl",
    "assemblies": "assembl",
    "nobly": "nobli",
    "archaeology": "archaeolog",
    "analogies": "analog",
    "technological": "technolog",
    "logy": "logi",
}
Start = Callable[..., Server]

english = splitter_of(Language.ENGLISH)


def test_lucene_s_33_stop_words_are_left_out_and_no_others() -> None:
    assert len(STOP_WORDS.split()) == 33
    assert english(STOP_WORDS) == english(STOP_WORDS.upper()) == []
    others = "who what when where which has have from were i you he she we do does did its been one".split()
    assert len(english(" ".join(others))) == len(others)


@pytest.mark.parametrize(("word", "stem"), {**STEMS, **DEPARTURES}.items())
def test_stems_are_porter_s_as_lucene_has_them(word: str, stem: str) -> None:
    assert english(word) == english(word.title()) == [stem]


@pytest.mark.parametrize("mark", "'’＇")
def test_possessives_are_left_out(mark: str) -> None:
    assert english(f"Emma{mark}s foxes{mark}S dogs{mark} café{mark}s") == ["emma", "fox", "dog", "café"]
    assert english(f"{mark}s gravenhage, it {mark} s") == ["s", "gravenhag", "s"]


def test_a_sentence() -> None:
    told = "The cities of Emma's father weren't running into the Übersee."
    assert english(told) == ["citi", "emma", "father", "weren", "t", "run", "überse"]


@pytest.mark.parametrize("language", Language)
def test_every_language_splits_english_and_scripts_without_blanks(language: Language) -> None:
    words = splitter_of(language)("Beijing 北京")
    assert words[-3:] == ["北", "北京", "京"]


def test_other_languages_have_stems_and_stop_words_of_their_own() -> None:
    german = splitter_of(Language.GERMAN)
    assert german("die Häuser") == german("das Haus") == ["haus"]
    assert splitter_of(Language.NONE) is split_words
    assert RetrieverSettings(corpus_path=Path("corpus.jsonl")).bm25_language == Language.ENGLISH


@pytest.mark.parametrize("language", Language)
@given(texts=st.lists(st.text(), min_size=1, max_size=4), text=st.text())
def test_a_text_that_has_words_is_found_by_itself(language: Language, texts: list[str], text: str) -> None:
    split = splitter_of(language)
    if split(text):
        index = Bm25Index.build([*texts, text], split)
        assert len(texts) in [hit.row_index for hit in index.search([text], len(texts) + 1)[0]]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), [["0"], ["1"], [], []]),
        (("--bm25_language", "none"), [[], [], ["0", "1"], []]),
        (("--bm25-language", "german"), [[], [], ["0", "1"], ["2"]]),
    ],
)
def test_a_server_takes_queries_apart_as_its_passages(
    tmp_path: Path, start_server: Start, options: tuple[str, ...], found: list[list[str]]
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    texts = ["the cities", "the technology", "ein Haus"]
    corpus.write_text("".join(json.dumps({"id": str(n), "contents": text}) + "\n" for n, text in enumerate(texts)))
    server = start_server(corpus, "--port", "0", *options)
    server.wait_until_ready()
    status, answer = server.request(
        "/retrieve", {"queries": ["citys", "technological", "THE", "die Häuser"], "topk": 3}
    )
    assert (status, [[row["id"] for row in rows] for rows in answer["result"]]) == (200, found)


def test_an_unknown_language_is_refused_with_those_there_are(tmp_path: Path, start_server: Start) -> None:
    server = start_server(tmp_path / "corpus.jsonl", "--port", "0", "--bm25_language", "klingon")
    code, _, said = server.end()
    assert code == 2
    assert "english" in said and "none" in said
