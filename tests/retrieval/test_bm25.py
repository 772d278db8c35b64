import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.retriever import Hit
from tests.retrieval.bm25_reference import bm25_scores, check_hits, words

# Few words, so that texts share them, with the characters on which tokenisers disagree.
few_words = st.lists(
    st.sampled_from(["the", "The", "İzmir", "ß", "x_1", "7", "中文", "e\u0301", "-", "’s"]), max_size=8
)
texts_strategy = st.lists(st.one_of(few_words.map(" ".join), st.text(max_size=20)), min_size=1, max_size=12).filter(
    lambda texts: any(word for text in texts for word in words(text))
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
