"""A prompt from a file, to try another one without touching the recipe or the data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slime_search.data.chat_format import as_question
from slime_search.errors import DataError
from slime_search.rollouts.questions import is_message
from slime_search.rollouts.recipes import Message

PLACE = "{question}"


def read_prompt_template(path: Path) -> Callable[[str], list[Message]]:
    """From a question to its messages: a text file is one message of the user, a ``.json`` file a list of messages.

    ``{question}`` stands for the question, which gets a question mark where it lacks one, as in training.

    Raises:
        DataError: the file can't be read, is no list of messages, or has no place for the question.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as a prompt ({error})") from None
    messages = _messages(path, text) if path.suffix == ".json" else [{"role": "user", "content": text}]
    if not any(PLACE in message["content"] for message in messages):
        raise DataError(f"{path}: write {PLACE} in it, where the question goes")

    def prompt(question: str) -> list[Message]:
        asked = as_question(question)
        return [{**message, "content": message["content"].replace(PLACE, asked)} for message in messages]

    return prompt


def _messages(path: Path, text: str) -> list[Message]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"{path}: not JSON ({error}); a prompt of plain text has another ending, such as .txt"
        ) from None
    match value:
        case [*rows] if rows and all(map(is_message, rows)):
            return [{"role": row["role"], "content": row["content"]} for row in rows]
    raise DataError(f'{path}: write a list of messages, such as [{{"role": "user", "content": "… {PLACE}"}}]')
