"""A corpus of the paragraphs that HotpotQA gives with its questions, two to find and eight to distract for each."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from slime_search.core.tokens import well_formed
from slime_search.data.questions import OnBytes, located_rows
from slime_search.errors import DataError
from slime_search.files import written_whole


class Paragraphs(NamedTuple):
    """How many there were, and how many of them were new."""

    read: int
    written: int


def write_corpus(files: Sequence[Path], target: Path, on_bytes: OnBytes = lambda count: None) -> Paragraphs:
    """Writes each paragraph of FlashRAG's HotpotQA files once, as Search-R1's corpora have them.

    A row is ``{"id", "contents"}`` with the title in quotes in the first line. The file has its name only once it is
    whole.

    Raises:
        DataError: a row holds no such paragraphs; it names file, line, field and fix.
    """
    seen: set[bytes] = set()
    read = 0
    with written_whole(target) as new, new.open("wb") as corpus:
        for path in files:
            for title, text in paragraphs_of(path, on_bytes):
                read += 1
                contents = f'"{title}"\n{text}'
                digest = blake2b(contents.encode(), digest_size=16).digest()
                if digest not in seen:
                    corpus.write(orjson.dumps({"id": str(len(seen)), "contents": contents}) + b"\n")
                    seen.add(digest)
    return Paragraphs(read, len(seen))


def paragraphs_of(path: Path, on_bytes: OnBytes = lambda count: None) -> Iterator[tuple[str, str]]:
    """Title and text of every paragraph in a file, those without text left out. Raises DataError."""
    for where, row in located_rows(path, on_bytes):
        try:
            yield from _paragraphs(row)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None


def _paragraphs(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    metadata = row.get("metadata")
    context = metadata.get("context") if isinstance(metadata, dict) else None
    match context:
        case {"title": list(titles), "sentences": list(paragraphs)} if len(titles) == len(paragraphs):
            for title, sentences in zip(titles, paragraphs, strict=True):
                if not isinstance(title, str) or not _are_texts(sentences):
                    shown = str([title, sentences])[:200]
                    raise DataError(f"metadata.context: {shown} is not a title with its sentences; download it again")
                if text := " ".join(" ".join(sentences).split()):
                    yield well_formed(" ".join(title.split())), well_formed(text)
        case _:
            raise DataError(
                f"metadata.context = {str(context)[:200]}: as many titles as lists of sentences are expected, as "
                "FlashRAG's hotpotqa has them; download the file again"
            )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
