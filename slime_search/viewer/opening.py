"""From what the command line names to a library: which files are read, and how."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from slime_search.errors import ConfigError, DataError
from slime_search.records.dump_rollouts import Ids, Pieces, dump_rollouts
from slime_search.records.from_samples import Decoder
from slime_search.records.slime_dump import DUMP_NAME, written
from slime_search.viewer.library import Indexed, Library, index_file

LINES = ("rollouts.jsonl", "trajectories.jsonl")
METRICS = "metrics.jsonl"


def files_of(path: Path, console: Console) -> list[Path]:
    """The files of rollouts that a path names: itself, or those of its folder, dumps by their number.

    A dump that is still being written is left out, and the console says so.

    Raises:
        DataError: there is nothing to show.
    """
    if not path.exists():
        raise DataError(f"{path}: does not exist", "name a file of rollouts, or the folder of a run")
    if not path.is_dir():
        return [path]
    found = [path / name for name in LINES if (path / name).exists()]
    if found:
        return found
    dumps = sorted(path.glob("*.pt"), key=_by_number)
    if not dumps:
        raise DataError(f"{path}: holds no {', '.join(LINES)} or dumps (*.pt); name a file or the folder of a run")
    return written(dumps, console)


def open_library(
    paths: Sequence[Path],
    *,
    spool: Path,
    progress: Progress,
    tokenizer: str | None = None,
    reward_key: str | None = None,
) -> Library:
    """Reads every file once.

    Args:
        spool: a folder in which dumps are kept as lines of JSON, as long as the library is used.
        tokenizer: a Hugging Face folder or name, which decodes dumps; without it they show token ids.
        reward_key: slime's ``--reward-key``, where the rewards of a dump are dicts.

    Raises:
        ConfigError: what reads or decodes dumps is not installed.
        DataError: a file is named twice or can't be read; the message names it, and the line or sample.
    """
    files = [file for path in paths for file in files_of(path, progress.console)]
    seen: set[Path] = set()
    for path in files:
        if path.resolve() in seen:
            raise DataError(f"{path}: named twice; name it once")
        seen.add(path.resolve())
    decoder: Decoder | None = None
    indexed = []
    for number, path in enumerate(files):
        lines = path
        if path.suffix == ".pt":
            decoder = decoder or _decoder(tokenizer)
            lines = spool / f"{number}.jsonl"
            _convert(path, lines, decoder, reward_key, progress)
        task = progress.add_task(f"Indexing {path.name}", total=lines.stat().st_size)

        def on_bytes(count: int, task: Any = task) -> None:
            progress.advance(task, count)

        indexed.append(Indexed(path, lines, index_file(lines, file=number, on_bytes=on_bytes)))
    library = Library(indexed, metrics=next(_metrics(paths), None))
    if not library.entries:
        named = ", ".join(map(str, paths))
        if any(file.lines.stat().st_size for file in indexed):
            raise DataError(
                f"{named}: its only line is not whole, or not JSON",
                "wait until it is written, or name a file with one rollout a line",
            )
        raise DataError(f"{named}: holds no rollouts yet")
    return library


def _convert(path: Path, lines: Path, decoder: Decoder, reward_key: str | None, progress: Progress) -> None:
    task = progress.add_task(f"Reading {path.name}", total=None)
    with lines.open("wb") as file:
        for rollout in dump_rollouts(path, decoder, reward_key=reward_key):
            file.write(rollout.line())
            progress.advance(task)
    progress.update(task, total=1, completed=1)


def _decoder(tokenizer: str | None) -> Decoder:
    if tokenizer is None:
        return Ids()
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ConfigError(
            f"--tokenizer {tokenizer}: transformers not installed, which decodes. Run: pip install transformers"
        ) from None
    try:
        return Pieces(AutoTokenizer.from_pretrained(tokenizer))
    except (OSError, ValueError) as error:
        raise DataError(f"--tokenizer {tokenizer}: {str(error).splitlines()[0]}") from None


def _metrics(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        beside = (path if path.is_dir() else path.parent) / METRICS
        if beside.exists():
            yield beside


def _by_number(path: Path) -> tuple[int, str]:
    named = DUMP_NAME.fullmatch(path.name)
    return (int(named["step"]) if named else 0, path.name)
