import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.retriever import Hit
from slime_search.retrieval.words import split_words
from tests.retrieval.bm25_reference import bm25_scores, check_hits

# Few words, so that texts share them, with the characters on which tokenisers disagree.
few_words = st.lists(
    st.sampled_from(["the", "The", "İzmir", "ß", "x_1", "7", "中文", "e\u0301", "-", "’s"]), max_size=8
)
texts_strategy = st.lists(st.one_of(few_words.map(" ".join), st.text(max_size=20)), min_size=1, max_size=12).filter(
    lambda texts: any(split_words(text) for text in texts)
)


@given(
    texts=texts_strategy,
    queries=st.lists(st.one_of(few_words.map(" ".join), st.text(max_size=20)), max_size=4),
    topk=st.integers(1, 20),
)
@example(texts=["a", "a b", "b"], queries=["A a b", "", "b", "b"], topk=2)
@example(texts=["same"] * 12, queries=["same"], topk=5)
def test_agrees_with_the_reference(texts: list[str], queries: list[str], topk: int) -> None:
    answers = Bm25Index.build(texts).search(queries, topk)
    assert len(answers) == len(queries)
    for query, hits in zip(queries, answers, strict=True):
        check_hits(hits, bm25_scores(texts, query), topk)


@given(texts=texts_strategy, query=few_words.map(" ".join), topk=st.integers(1, 12))
def test_a_smaller_topk_is_the_beginning_of_a_larger(texts: list[str], query: str, topk: int) -> None:
    index = Bm25Index.build(texts)
    assert index.search([query], topk) == [index.search([query], 12)[0][:topk]]


def test_equal_scores_come_in_corpus_order_even_at_the_cut() -> None:
    index = Bm25Index.build(["red fox", "blue fox", "red hen", "red dog", "red cat"])
    assert [hit.row_index for hit in index.search(["red"], 3)[0]] == [0, 2, 3]


@pytest.mark.parametrize("query", ["", "  ", "?!", "unheard of"])
def test_a_query_without_a_known_word_finds_nothing(query: str) -> None:
    assert Bm25Index.build(["red fox", "blue hen"]).search([query, "fox"], 2)[0] == []


def test_single_letters_and_stop_words_count() -> None:
    index = Bm25Index.build(["vitamin c", "vitamin d", "the who"])
    assert [[hit.row_index for hit in hits] for hits in index.search(["c", "D", "the"], 3)] == [[0], [1], [2]]


def test_hits_are_plain_numbers() -> None:
    [[hit]] = Bm25Index.build(["red", "blue"]).search(["red"], 1)
    assert hit == Hit(row_index=0, score=hit.score)
    assert (type(hit.row_index), type(hit.score)) == (int, float)


@pytest.mark.parametrize("texts", [[], ["", "—"]])
def test_texts_without_words_are_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="no text holds a word"):
        Bm25Index.build(texts)


@pytest.mark.parametrize(
    ("passage", "query"),
    [
        ("北京是中华人民共和国的首都。", "北京"),
        ("北京是中华人民共和国的首都。", "都"),
        ("東京タワーは港区にある。", "タワー"),
        ("กรุงเทพมหานครเป็นเมืองหลวง", "กรุงเทพ"),
        ("ភ្នំពេញជារាជធានី", "ភ្នំពេញ"),
        ("서울은 수도이다", "서울"),
        ("Cafe\u0301 de Flore", "café"),
        ("क्षेत्रफल बड़ा है", "क्षेत्रफल"),
        ("İzmir is a city", "izmir"),
        ("STRASSE", "straße"),
        ("ﬁnal ＡＢＣ", "final abc"),
        ("co\u00adoperate", "cooperate"),
    ],
)
def test_scripts_without_blanks_and_combining_forms_are_found(passage: str, query: str) -> None:
    index = Bm25Index.build(["something else", passage, "另外的 別の อื่น ផ្សេង 다른"])
    assert index.search([query], 3)[0][0].row_index == 1


def test_neighbours_count_more_than_the_characters_apart() -> None:
    index = Bm25Index.build(["京北", "北京", "北边的东京"])
    assert index.search(["北京"], 3)[0][0].row_index == 1


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_words_are_runs_of_letters_digits_and_underscores(text: str) -> None:
    runs = "".join(char if char.isalnum() or char == "_" else " " for char in text.lower())
    assert split_words(text) == runs.split()


@given(st.text(), st.text())
def test_words_do_not_depend_on_what_stands_beside_them(left: str, right: str) -> None:
    assert split_words(f"{left} | {right}") == split_words(left) + split_words(right)


@given(st.text(st.characters(codec="latin-1")))
def test_composed_and_combining_forms_have_the_same_words(text: str) -> None:
    composed, apart = (split_words(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    assert composed == apart
