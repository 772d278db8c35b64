"""Writes the synthetic encyclopedia in the file formats of real search-agent training."""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slime_search.local.demonstrations import Teacher, write_demonstrations
from slime_search.local.policy import build_tokenizer
from slime_search.local.styles import TAGS, Style
from slime_search.local.world import Encyclopedia, Question, World, invent_encyclopedia
from slime_search.retrieval.bm25 import Bm25Index
from slime_search.tools.base import Passage

DATA_SOURCE = "synthetic_encyclopedia"
PASSAGES_PER_SEARCH = 3


@dataclass(frozen=True)
class DatasetPaths:
    """Where a dataset lies, and what is in it.

    ``corpus`` is what a retrieval server reads; ``train`` and ``test`` have Search-R1's columns; ``demonstrations`` are
    the cold start's.
    """

    encyclopedia: Encyclopedia
    corpus: Path
    train: Path
    test: Path
    demonstrations: Path
    documents: int
    questions: int


def write_dataset(
    folder: Path,
    seed: int,
    *,
    encyclopedia: Encyclopedia | None = None,
    style: Style = TAGS,
    demonstrations: int = 8000,
    train_questions: int = 3000,
    test_questions: int = 200,
) -> DatasetPaths:
    """Invents an encyclopedia, unless one is given, and writes everything that learning from it takes.

    The same arguments give the same bytes. Training questions are drawn with replacement from the train world; test
    questions are distinct and come from the held-out world.

    Raises:
        ValueError: the held-out world has fewer distinct questions than ``test_questions``.
    """
    encyclopedia = encyclopedia or invent_encyclopedia(seed)
    rng = random.Random(f"dataset {seed}")
    folder.mkdir(parents=True, exist_ok=True)
    documents = _documents(encyclopedia, rng)
    train = list(islice(encyclopedia.train.questions(rng), train_questions))
    test = _distinct_questions(encyclopedia.held_out, rng, test_questions)
    paths = DatasetPaths(
        encyclopedia=encyclopedia,
        corpus=folder / "corpus.jsonl",
        train=folder / "train.parquet",
        test=folder / "test.parquet",
        demonstrations=folder / "demonstrations.jsonl",
        documents=len(documents),
        questions=len(train) + len(test),
    )
    _write_corpus(paths.corpus, documents)
    pq.write_table(pa.Table.from_pylist(_rows(train, "train")), paths.train)
    pq.write_table(pa.Table.from_pylist(_rows(test, "test")), paths.test)
    teacher = Teacher(encyclopedia, _searcher(documents), build_tokenizer(encyclopedia, style), rng, style=style)
    asked = islice(encyclopedia.cold_start.questions(rng), demonstrations)
    write_demonstrations(paths.demonstrations, (teacher.demonstrate(question) for question in asked))
    return paths


def _documents(encyclopedia: Encyclopedia, rng: random.Random) -> list[Passage]:
    """One document an entity, shuffled, so that a document's id does not tell its world."""
    documents = [Passage(entity.name, entity.text) for entity in encyclopedia.entities.values()]
    rng.shuffle(documents)
    return documents


def _contents(document: Passage) -> str:
    # Search-R1 puts quotes around the title. A quote would keep the blank away from the first word of a name, which
    # then would be another token there than everywhere else.
    return f"{document.title}\n{document.text}"


def _write_corpus(path: Path, documents: Iterable[Passage]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row_index, document in enumerate(documents):
            file.write(json.dumps({"id": str(row_index), "contents": _contents(document)}) + "\n")


def _distinct_questions(world: World, rng: random.Random, count: int) -> list[Question]:
    available = {question.text: question for question in world.all_questions()}
    if count > len(available):
        raise ValueError(f"test_questions: {count}, but the held-out world has {len(available)} distinct questions")
    chosen: dict[str, Question] = {}
    for question in world.questions(rng):
        if len(chosen) == count:
            break
        chosen[question.text] = question
    return list(chosen.values())


def _rows(questions: Iterable[Question], split: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{split}_{index}",
            "question": question.text,
            "golden_answers": [question.answer],
            "data_source": DATA_SOURCE,
            "prompt": [{"role": "user", "content": question.text}],
            "ability": "fact-reasoning",
            "reward_model": {"style": "rule", "ground_truth": {"target": [question.answer]}},
            "extra_info": {"index": index, "split": split, "hops": len(question.chain)},
        }
        for index, question in enumerate(questions)
    ]


def _searcher(documents: Sequence[Passage]) -> Callable[[str], list[Passage]]:
    """The search of the retrieval server, without the server."""
    index = Bm25Index.build(_contents(document) for document in documents)

    def search(query: str) -> list[Passage]:
        (hits,) = index.search([query], PASSAGES_PER_SEARCH)
        return [documents[hit.row_index] for hit in hits]

    return search
