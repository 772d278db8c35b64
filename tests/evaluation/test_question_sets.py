"""Which questions are asked, and what their sets are called."""

import json
from pathlib import Path

import pytest

from slime_search.errors import DataError
from slime_search.evaluation.questions import digests, read_sets


def written(path: Path, count: int = 20) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"question": f"Who is {number}?", "golden_answers": [str(number)]} for number in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_set_is_called_as_its_file_or_as_the_folder_of_a_split(tmp_path: Path) -> None:
    told = [written(tmp_path / "test" / "popqa.jsonl"), written(tmp_path / "nq" / "test.jsonl")]
    told.append(f"mine={written(tmp_path / 'a=b' / 'x.jsonl')}")
    assert list(read_sets(told, limit=None, seed=0)) == ["popqa", "nq", "mine"]


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    told = [written(tmp_path / "a" / "x.jsonl"), written(tmp_path / "b" / "x.jsonl")]
    with pytest.raises(DataError, match="another set 'x'; name it with --test-set NAME=FILE"):
        read_sets(told, limit=None, seed=0)


def test_a_draw_is_seeded_and_keeps_the_order_and_the_ids_of_the_file(tmp_path: Path) -> None:
    told = [written(tmp_path / "nq.jsonl")]

    def drawn(seed: int) -> list[str]:
        return [question.id for question in read_sets(told, limit=5, seed=seed)["nq"]]

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(drawn(0)) == 5
    whole = [question.id for question in read_sets(told, limit=None, seed=0)["nq"]]
    assert drawn(0) == [one for one in whole if one in drawn(0)]
    assert read_sets(told, limit=100, seed=0) == read_sets(told, limit=None, seed=0)


def test_other_questions_have_another_digest(tmp_path: Path) -> None:
    told = [written(tmp_path / "nq.jsonl")]
    assert digests(read_sets(told, limit=5, seed=0)) == digests(read_sets(told, limit=5, seed=0))
    assert digests(read_sets(told, limit=5, seed=0)) != digests(read_sets(told, limit=5, seed=1))
