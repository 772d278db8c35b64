"""Writes the synthetic encyclopedia in the file formats of real search-agent training."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from slime_search.core.tool import Passage
from slime_search.local.demonstrations import (
    ONLY_ROLE,
    AnsweringAgent,
    Demonstration,
    Documents,
    Source,
    Teacher,
    write_demonstrations,
)
from slime_search.local.policy import build_tokenizer
from slime_search.local.presets import SEARCH_R1, Preset, Role
from slime_search.local.world import Encyclopedia, Question, World, invent_encyclopedia
from slime_search.retrieval.bm25 import Bm25Index

DATA_SOURCE = "synthetic_encyclopedia"
PASSAGES_PER_SEARCH = 3


@dataclass(frozen=True)
class DatasetPaths:
    """Where a dataset lies, and what is in it.

    ``corpus`` is what a retrieval server reads; ``train`` and ``test`` have Search-R1's columns; ``demonstrations`` are
    the policy's cold start's, ``reluctant_demonstrations`` those of its end and ``frozen_demonstrations`` those of a
    second model, where the preset has them.
    """

    encyclopedia: Encyclopedia
    corpus: Path
    train: Path
    test: Path
    demonstrations: Path
    frozen_demonstrations: Path
    reluctant_demonstrations: Path
    documents: int
    questions: int


def write_dataset(
    folder: Path,
    seed: int,
    *,
    encyclopedia: Encyclopedia | None = None,
    preset: Preset = SEARCH_R1,
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
    train = list(islice(encyclopedia.train.questions(rng, preset.hops), train_questions))
    test = _distinct_questions(encyclopedia.held_out, rng, test_questions)
    paths = DatasetPaths(
        encyclopedia=encyclopedia,
        corpus=folder / "corpus.jsonl",
        train=folder / "train.parquet",
        test=folder / "test.parquet",
        demonstrations=folder / "demonstrations.jsonl",
        frozen_demonstrations=folder / "frozen_demonstrations.jsonl",
        reluctant_demonstrations=folder / "reluctant_demonstrations.jsonl",
        documents=len(documents),
        questions=len(train) + len(test),
    )
    _write_corpus(paths.corpus, documents)
    pq.write_table(pa.Table.from_pylist(_rows(train, "train")), paths.train)
    pq.write_table(pa.Table.from_pylist(_rows(test, "test")), paths.test)
    teachers = _Teachers(
        encyclopedia, Documents(encyclopedia, _searcher(documents)), build_tokenizer(encyclopedia, preset.policy_format)
    )
    each = demonstrations // len(preset.roles)
    by_role = (teachers.demonstrations(name, role, rng, each) for name, role in preset.roles.items())
    write_demonstrations(paths.demonstrations, chain.from_iterable(by_role))
    if preset.frozen is not None:
        write_demonstrations(
            paths.frozen_demonstrations, teachers.demonstrations(ONLY_ROLE, preset.frozen.role, rng, demonstrations)
        )
    if preset.reluctance is not None:
        reluctant = replace(preset.roles[ONLY_ROLE], habits=preset.reluctance)
        shown = teachers.demonstrations(ONLY_ROLE, reluctant, rng, demonstrations // 4)
        write_demonstrations(paths.reluctant_demonstrations, shown)
    return paths


class _Teachers:
    """Teachers of every role."""

    def __init__(self, encyclopedia: Encyclopedia, documents: Documents, tokenizer: PreTrainedTokenizerBase) -> None:
        self._encyclopedia = encyclopedia
        self._sources: dict[str, Source] = {"documents": documents, "agent": AnsweringAgent(encyclopedia)}
        self._tokenizer = tokenizer

    def demonstrations(self, name: str, role: Role, rng: random.Random, count: int) -> Iterator[Demonstration]:
        """Demonstrations of one role on questions of the cold start's world."""
        source = self._sources[role.source]
        teacher = Teacher(
            self._encyclopedia, source, self._tokenizer, rng, role.habits, policy_format=role.policy_format, role=name
        )
        asked = islice(self._encyclopedia.cold_start.questions(rng, role.hops), count)
        return (teacher.demonstrate(question) for question in asked)


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
    """The search of the retrieval server that ``stack.RetrieverProcess`` starts, without the server."""
    index = Bm25Index.build(_contents(document) for document in documents)

    def search(query: str) -> list[Passage]:
        (hits,) = index.search([query], PASSAGES_PER_SEARCH)
        return [documents[hit.row_index] for hit in hits]

    return search
