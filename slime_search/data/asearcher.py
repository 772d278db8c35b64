"""Questions of ASearcher (arXiv 2508.07976), in whatever columns a copy of them has, as chat-format training files."""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from slime_search.core.tokens import well_formed
from slime_search.data.flashrag import downloaded
from slime_search.data.formats import chat_row, read_rows, write_parquet
from slime_search.data.questions import Question, key_of, read_questions, sift
from slime_search.errors import DataError
from slime_search.recipes.distillation.recipe import TOOL_SCHEMAS
from slime_search.rewards.labels import gold_answers

REPO, FILE = "inclusionAI/ASearcher-train-data", "ASearcher-Base-35k.jsonl"
NAME = "asearcher"

SYSTEM_PROMPT = (
    "You answer questions with the help of a search function. Think first. If you lack knowledge, call search; you may "
    "call it several times, each time with one short query or with a list of several. When you know enough, give the "
    "final answer between <answer> and </answer>, as short as possible: a name, a place, a date, without explanation. "
    "For example: <answer>Beijing</answer>."
)

_QUESTION = ("question", "query", "problem", "input", "instruction", "prompt", "messages")
_ANSWERS = ("golden_answers", "answer", "answers", "aug_answer", "ground_truth", "target", "reward_model", "label")


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
    secret = {key_of(question.text) for question in held_out}
    questions = [q for path in files for q in progress.track(list(_read(path)), description=f"reading {path.name}")]
    sifted = sift(questions, set(), secret)
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


def question_of(row: Mapping[str, Any], number: int) -> Question:
    """The question of a row, and every answer that it has.

    Raises:
        DataError: a column is missing; it names those that are there.
    """
    inner = row.get("extra_info")
    columns = {**(inner if isinstance(inner, Mapping) else {}), **{k: v for k, v in row.items() if v is not None}}
    text = next(filter(None, (_text(columns.get(name)) for name in _QUESTION)), None)
    if text is None:
        raise DataError(f"question: none of {', '.join(_QUESTION)} holds a text; the row has {', '.join(row)}")
    answers = [well_formed(answer.strip()) for name in _ANSWERS for answer in _gold(columns.get(name))]
    answers = list(dict.fromkeys(filter(None, answers)))
    if not answers:
        raise DataError(f"answers: none of {', '.join(_ANSWERS)} holds any; the row has {', '.join(row)}")
    identifier = next((columns[name] for name in ("id", "qid", "index") if name in columns), number)
    return Question(NAME, str(identifier), well_formed(text), answers)


def _read(path: Path) -> Iterator[Question]:
    try:
        for number, row in enumerate(read_rows(path), start=1):
            try:
                yield question_of(row, number)
            except DataError as error:
                raise DataError(f"{path}, row {number}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name a file that can be read") from error


def _text(value: Any) -> str | None:
    """A text, or what the user last said in chat messages."""
    if isinstance(value, list):
        said = [m.get("content") for m in value if isinstance(m, Mapping) and m.get("role") == "user"]
        value = said[-1] if said else None
    return value.strip() if isinstance(value, str) and value.strip() else None


def _gold(value: Any) -> list[str]:
    try:
        return gold_answers(value)
    except DataError:
        return []


def _row(question: Question) -> dict[str, Any]:
    row = {"question": question.text, "golden_answers": question.answers, "data_source": question.source}
    return chat_row(row, system_prompt=SYSTEM_PROMPT, tools=TOOL_SCHEMAS)
