"""Makes one training file and a file for each test set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from slime_search.data.prompts import chat_row, coda_row, search_r1_row, write_parquet
from slime_search.data.questions import Question, key_of, read_questions, sift
from slime_search.errors import DataError

RowOf = Callable[[Question, str, int], dict[str, Any]]
"""From a question, its split and its index to a row."""


class Format(NamedTuple):
    row_of: RowOf
    flags: str
    """The flags that name the columns to slime."""


FORMATS = {
    "search-r1": Format(
        lambda question, split, index: search_r1_row(question, split=split, index=index),
        "--input-key prompt --label-key reward_model --apply-chat-template",
    ),
    "coda": Format(
        lambda question, split, index: coda_row(question, split=split, index=index),
        "--input-key prompt --label-key reward_model --apply-chat-template",
    ),
    "chat": Format(
        lambda question, split, index: chat_row(question), "--input-key messages --tool-key tools --label-key label"
    ),
}


class Part(NamedTuple):
    """What became of one data set."""

    name: str
    path: Path
    read: int
    duplicates: int
    """In training left out, in a test set counted only, so that scores can be compared with published ones."""
    leaked: int
    """Training questions that are in a test set."""
    written: int


class Prepared(NamedTuple):
    train: list[Part]
    test: list[Part]
    leaks_removed: bool


def prepare(
    train: Mapping[str, Path],
    test: Mapping[str, Path],
    output: Path,
    form: Format,
    progress: Progress,
    *,
    keep_leaks: bool = False,
) -> Prepared:
    """Reads everything, and then writes ``output/train.parquet`` and ``output/test/<name>.parquet``.

    Args:
        train: FlashRAG's files by name. A question that an earlier one has is left out.
        test: the same. Training questions that are in one of them are left out, unless ``keep_leaks``.

    Raises:
        DataError: a file can't be read, a row is not what it should be, or nothing is left to train on.
    """
    tests = {name: list(_read(path, name, progress)) for name, path in test.items()}
    blocked = {key_of(question.text) for questions in tests.values() for question in questions}
    seen: set[str] = set()
    trained: list[Question] = []
    parts = []
    target = output / "train.parquet"
    for name, path in train.items():
        questions = list(_read(path, name, progress))
        leaked = sum(key_of(question.text) in blocked for question in questions)
        sifted = sift(questions, seen, () if keep_leaks else blocked)
        trained += sifted.kept
        parts.append(Part(name, target, len(questions), sifted.duplicates, leaked, len(sifted.kept)))
    if train and not trained:
        raise DataError(f"train: every question of {', '.join(train)} is in a test set; name other --train sets")
    if trained:
        _write(target, trained, "train", form, progress)
    return Prepared(parts, [_test_part(output, *item, form, progress) for item in tests.items()], not keep_leaks)


def _test_part(output: Path, name: str, questions: Sequence[Question], form: Format, progress: Progress) -> Part:
    path = output / "test" / f"{name}.parquet"
    _write(path, questions, "test", form, progress)
    duplicates = len(questions) - len({key_of(question.text) for question in questions})
    return Part(name, path, len(questions), duplicates, 0, len(questions))


def _read(path: Path, name: str, progress: Progress) -> Iterator[Question]:
    task = progress.add_task(f"reading {name}", total=path.stat().st_size if path.exists() else None)
    yield from read_questions(path, name, lambda count: progress.advance(task, count))


def _write(path: Path, questions: Sequence[Question], split: str, form: Format, progress: Progress) -> None:
    tracked = progress.track(questions, description=f"writing {path.name}")
    try:
        write_parquet(path, (form.row_of(question, split, index) for index, question in enumerate(tracked)))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name another --output") from error
