"""What a row of a corpus has to be."""

from typing import Any

import orjson

from slime_search.retrieval.errors import SetupError


class CorpusError(SetupError):
    """A corpus file can't be served; the message names the file, the line and the fix."""


def passage_text(row: Any) -> str:
    """The searchable text of a parsed row: ``contents``, or ``text`` after its ``title``. Raises CorpusError."""
    if not isinstance(row, dict):
        raise CorpusError("the line is not a JSON object", "write one object a line")
    title, text, contents = row.get("title"), row.get("text"), row.get("contents")
    if isinstance(contents, str) and contents.strip():
        return contents
    if isinstance(text, str) and text.strip():
        return f"{title}\n{text}" if title else text
    raise CorpusError(f'no text in "contents" or "text" among {list(row)}', "give the row a text or delete the line")


def check_row(row: bytes, where: str) -> None:
    """Raises CorpusError, beginning with ``where``, unless ``row`` is the JSON text of a passage."""
    try:
        passage_text(orjson.loads(row))
    except orjson.JSONDecodeError as error:
        raise CorpusError(
            f"{where}: not valid JSON ({error.msg}, character {error.pos + 1})",
            "each line must be one JSON object: correct or delete the line",
        ) from None
    except CorpusError as error:
        raise CorpusError(f"{where}: {error.found}", error.fix) from None
