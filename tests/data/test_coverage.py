"""What of a data set some text answers, and how well that is known."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slime_search.data.coverage import (
    AnswerFinder,
    Share,
    coverage_of,
    described,
    evenly,
    is_in,
    needs_no_passage,
    sets_of,
)
from slime_search.data.prompts import search_r1_row, write_parquet
from slime_search.data.questions import Question
from slime_search.rewards.text import cover_exact_match, normalize_answer

# Few words, so that texts share them, with articles, punctuation and blanks of other kinds.
words = st.lists(
    st.sampled_from(["the", "A", "war", "of", "world", "world's", "Ödön", "–a–", "7", "u.s.", "\u00a0", "’"])
)
texts = st.one_of(words.map(" ".join), st.text(max_size=20))


def found_in(answers: list[str], passages: list[str]) -> set[str]:
    finder = AnswerFinder(answers)
    for passage in passages:
        finder.look_in(passage)
    assert finder.is_done == (finder.found == {normalize_answer(answer) for answer in answers} - {""})
    return finder.found


@given(answers=st.lists(texts, max_size=6), passages=st.lists(texts, max_size=6))
@example(answers=["War of the World", "world war"], passages=["the war of world", "worldwar", "a world, a war"])
@example(answers=["new york", "york city", "New York City"], passages=["in new york city"])
@example(answers=["a a", "7 7 7", "7 7"], passages=["7 7", "7 7 7"])
def test_found_is_what_exact_match_s_normalisation_finds(answers: list[str], passages: list[str]) -> None:
    expected = {normalize_answer(a) for a in answers if any(cover_exact_match(p, [a]) for p in passages)}
    assert found_in(answers, passages) == expected


def test_half_a_word_is_no_answer() -> None:
    assert found_in(["art", "Ada"], ["parts of Adam's", "art, and ADA"]) == {"art", "ada"}
    assert found_in(["art", "Ada"], ["parts of Adam's"]) == set()


def question(number: int, *answers: str, source: str = "nq") -> Question:
    return Question(source, str(number), f"what is {number}?", answers)


def test_counts_of_a_data_set() -> None:
    asked = [question(1, "Paris"), question(2, "no such", "Rome"), question(3, "Oslo"), question(4, "yes"), question(5)]
    found = coverage_of("test nq", asked, {"paris", "rome"})
    assert (found.questions, found.by_reasoning, found.corpus, [q.id for q in found.missing]) == (
        5,
        1,
        Share(3, 5),
        ["3", "5"],
    )
    told = described(found)
    assert "3 of 5 questions have a gold answer in some passage, 60.0% (23.1% to 88.2%), 1 of them answered" in told
    assert "reaches an EM of 0.600 at most (0.231 to 0.882)" in told
    assert "'what is 3?' ('Oslo'); 'what is 5?' ('')" in told


def test_yes_and_no_need_no_passage() -> None:
    assert needs_no_passage(question(1, "Yes."))
    assert needs_no_passage(question(1, "no", "No"))
    assert not needs_no_passage(question(1, "yes", "Norway"))
    assert not needs_no_passage(question(1))
    assert is_in(question(1, "yes"), [])
    assert is_in(question(1, "Oslo"), ["Rome", "in OSLO."])
    assert not is_in(question(1, "Oslo"), ["Rome"])


# Wilson's interval by the formula of Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("share", "low", "high"),
    [
        (Share(81, 263), 0.2553, 0.3662),
        (Share(15, 148), 0.0624, 0.1605),
        (Share(0, 20), 0.0, 0.1611),
        (Share(1, 29), 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilson_s(share: Share, low: float, high: float) -> None:
    assert share.interval == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_interval_holds_the_share(counts: tuple[int, int]) -> None:
    share = Share(*counts)
    low, high = share.interval
    assert 0 <= low <= share.value <= high <= 1


@given(st.integers(0, 50), st.integers(1, 20))
def test_a_sample_is_of_all_over_the_questions(count: int, how_many: int) -> None:
    asked = [question(number, "x") for number in range(count)]
    taken = [int(q.id) for q in evenly(asked, how_many)]
    assert len(set(taken)) == len(taken) == min(count, how_many)
    assert taken == sorted(taken)


def test_a_training_file_has_several_data_sets(tmp_path: Path) -> None:
    asked = [question(1, "x"), question(2, "x", source="hotpotqa"), question(3, "x")]
    rows = [search_r1_row(q, split="train", index=n) for n, q in enumerate(asked)]
    path = write(tmp_path / "train.parquet", rows)
    sets = sets_of(path, "train")
    assert {name: [q.id for q in of_set] for name, of_set in sets.items()} == {
        "train nq": [sets["train nq"][0].id, sets["train nq"][1].id],
        "train hotpotqa": [sets["train hotpotqa"][0].id],
    }


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    write_parquet(path, rows)
    return path
