"""Questions of ASearcher (arXiv 2508.07976), whose copies have many columns, as chat-format training files."""

import random
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from slime_search.data.flashrag import downloaded
from slime_search.data.prompts import SEVERAL_QUERIES_PROMPT, chat_row, write_parquet
from slime_search.data.questions import Question, key_of, read_questions, sift
from slime_search.errors import DataError
from slime_search.recipes.distillation.recipe import TOOL_SCHEMAS

REPO, FILE = "inclusionAI/ASearcher-train-data", "ASearcher-Base-35k.jsonl"
NAME = "asearcher"


class Prepared(NamedTuple):
    """How many questions were read, left out and written."""

    read: int
    duplicates: int
    leaked: int
    """Questions that are in HotpotQA's dev split."""
    train: int
    validation: int
    hotpotqa: int


def source_files(source: Path | None) -> list[Path]:
    """The files of a folder, that one file, or the one from the Hub.

    Raises:
        DataError: there is none; it names the command that gets them.
    """
    if source is None:
        return [downloaded(FILE, REPO, instead="--source with a file")]
    files = sorted(p for p in source.iterdir() if p.suffix in (".parquet", ".jsonl")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise DataError(
            f"--source {source}: no .parquet or .jsonl there. Run: hf download {REPO} {FILE} --repo-type dataset "
            f"--local-dir {source if not source.suffix else source.parent}\nor leave --source out, which downloads it"
        )
    return files


def prepare_asearcher(
    files: Sequence[Path], hotpotqa: Path, output: Path, progress: Progress, *, validation: int, seed: int = 0
) -> Prepared:
    """Writes ``train.parquet``, ``test/asearcher.parquet`` and ``test/hotpotqa.parquet`` into ``output``.

    Args:
        files: ASearcher's. Questions that occur twice, or in ``hotpotqa``, are left out.
        hotpotqa: FlashRAG's dev split, to validate on.
        validation: questions that are held out of training.

    Raises:
        DataError: a file can't be read, a row is not what it should be, or too few are left to train on.
    """
    held_out = list(read_questions(hotpotqa, "hotpotqa"))
    blocked = {key_of(question.text) for question in held_out}
    read = (read_questions(path, NAME) for path in progress.track(files, description="reading"))
    questions = list(chain.from_iterable(read))
    sifted = sift(questions, set(), blocked)
    shuffled = random.Random(seed).sample(sifted.kept, len(sifted.kept))
    validated, trained = shuffled[:validation], shuffled[validation:]
    if not trained:
        raise DataError(
            f"{len(sifted.kept)} questions are left of {len(questions)}, and --validation asks for {validation} of "
            "them; give more, or a smaller number"
        )
    for path, rows in (
        (output / "train.parquet", trained),
        (output / "test" / f"{NAME}.parquet", validated),
        (output / "test" / "hotpotqa.parquet", held_out),
    ):
        if rows:
            write_parquet(path, map(_row, progress.track(rows, description=f"writing {path.name}")))
    return Prepared(len(questions), sifted.duplicates, sifted.leaked, len(trained), len(validated), len(held_out))


def _row(question: Question) -> dict[str, Any]:
    return chat_row(question, system_prompt=SEVERAL_QUERIES_PROMPT, tools=TOOL_SCHEMAS)
