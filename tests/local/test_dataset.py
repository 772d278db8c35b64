import json
import statistics
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from slime_search.local.dataset import DatasetPaths, write_dataset
from slime_search.local.demonstrations import UNSKILLED, read_demonstrations
from slime_search.local.presets import PRESETS
from slime_search.local.world import WorldSize, invent_encyclopedia
from slime_search.retrieval.corpus import Corpus

SMALL = WorldSize(people=30, towns=12, companies=12)
COLUMNS = ["id", "question", "golden_answers", "data_source", "prompt", "ability", "reward_model", "extra_info"]


def test_corpus_is_one_the_retrieval_server_reads(dataset: DatasetPaths) -> None:
    corpus = Corpus.read(dataset.corpus)
    assert len(corpus) == dataset.documents == len(dataset.encyclopedia.entities)
    for index in range(len(corpus)):
        row = json.loads(corpus.row(index))
        title, text = row["contents"].split("\n")
        assert row["id"] == str(index)
        assert text == dataset.encyclopedia.entities[title].text


@pytest.mark.parametrize(("split", "count"), [("train", 50), ("test", 40)])
def test_parquet_has_search_r1_columns(dataset: DatasetPaths, split: str, count: int) -> None:
    table = pq.read_table(getattr(dataset, split))
    assert table.column_names == COLUMNS
    rows = table.to_pylist()
    assert len(rows) == count
    for index, row in enumerate(rows):
        assert row["prompt"] == [{"role": "user", "content": row["question"]}]
        assert row["reward_model"] == {"style": "rule", "ground_truth": {"target": row["golden_answers"]}}
        assert row["extra_info"]["index"] == index
        assert row["extra_info"]["split"] == split
        assert row["extra_info"]["hops"] in (1, 2)
    assert len({row["id"] for row in rows}) == count


def test_each_split_asks_about_its_own_world_and_is_answered_right(dataset: DatasetPaths) -> None:
    worlds = {dataset.train: dataset.encyclopedia.train, dataset.test: dataset.encyclopedia.held_out}
    for path, world in worlds.items():
        answers = {question.text: question.answer for question in world.all_questions()}
        for row in pq.read_table(path).to_pylist():
            assert row["golden_answers"] == [answers[row["question"]]]


def test_test_questions_are_distinct(dataset: DatasetPaths) -> None:
    questions = pq.read_table(dataset.test)["question"].to_pylist()
    assert len(set(questions)) == len(questions)


def test_demonstrations_ask_about_the_cold_start_world_only(dataset: DatasetPaths) -> None:
    known = {question.text for question in dataset.encyclopedia.cold_start.all_questions()}
    demonstrations = list(read_demonstrations(dataset.demonstrations))
    assert len(demonstrations) == 300
    assert {demonstration.question for demonstration in demonstrations} <= known


def test_who_is_left_reluctant_hardly_searches(tmp_path: Path) -> None:
    preset = PRESETS["distill"]
    assert preset.reluctance is not None
    encyclopedia = invent_encyclopedia(0, SMALL, SMALL, SMALL)
    sizes = {"demonstrations": 800, "train_questions": 5, "test_questions": 5}
    paths = write_dataset(tmp_path, 0, preset=preset, encyclopedia=encyclopedia, **sizes)

    def searching(path: Path) -> float:
        return statistics.fmean(len(one.segments) > 1 for one in read_demonstrations(path))

    assert searching(paths.demonstrations) == pytest.approx(UNSKILLED.searches, abs=0.05)
    assert searching(paths.reluctant_demonstrations) == pytest.approx(preset.reluctance.searches, abs=0.04)
    assert searching(paths.frozen_demonstrations) == 1.0
    searches = Counter(len(one.segments) // 2 for one in read_demonstrations(paths.reluctant_demonstrations))
    assert searches[2] / searches[1] < 0.1


def test_the_preset_says_how_many_facts_training_takes(tmp_path: Path) -> None:
    encyclopedia = invent_encyclopedia(0, SMALL, SMALL, SMALL)
    sizes = {"demonstrations": 5, "train_questions": 30, "test_questions": 30}
    paths = write_dataset(tmp_path, 0, preset=PRESETS["distill"], encyclopedia=encyclopedia, **sizes)

    def hops(path: Path) -> set[int]:
        return {row["hops"] for row in pq.read_table(path)["extra_info"].to_pylist()}

    assert (hops(paths.train), hops(paths.test)) == ({2}, {1, 2})


def test_a_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    def written(folder: Path, seed: int) -> list[bytes]:
        encyclopedia = invent_encyclopedia(seed, SMALL, SMALL, SMALL)
        paths = write_dataset(
            folder, seed, encyclopedia=encyclopedia, demonstrations=20, train_questions=20, test_questions=20
        )
        return [path.read_bytes() for path in (paths.corpus, paths.train, paths.test, paths.demonstrations)]

    first, again, other = (written(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_more_test_questions_than_the_world_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="test_questions: 9999"):
        write_dataset(tmp_path, 0, encyclopedia=invent_encyclopedia(0, SMALL, SMALL, SMALL), test_questions=9999)
