"""Runs to imitate, as rows of a parquet file, and the tokens that such a run has as a rollout."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from slime_search.core.prompt_template import PromptTemplate
from slime_search.core.tokens import TokenCodec, Tokenizer
from slime_search.errors import ConfigError, DataError
from slime_search.validation import reason

TASK = "{task}"


class Piece(BaseModel):
    """Text with one writer: the model, whose tokens are trained; the recipe, around a result; the world, in it.

    The world's text can become neither a control token nor a tag. ``frame`` and ``world`` are masked.
    """

    model_config = ConfigDict(frozen=True)

    owner: Literal["model", "frame", "world"]
    text: str


class Demonstration(BaseModel):
    """One run. Nothing is appended to what it says: a turn ends with a closing tag, or with the marker written here."""

    model_config = ConfigDict(frozen=True)

    prompt: str | tuple[dict[str, str], ...]
    """Text, or chat messages for the tokenizer's template."""
    segments: tuple[Piece, ...]
    task: str | None = None
    """What ``{task}`` in the prompt stands for. It is a model's text, and encoded as such."""
    tags: tuple[str, ...] = ()
    """Markup that the world's text must not be able to write."""


class Encoded(NamedTuple):
    """Token ids of a demonstration; ``loss_mask`` holds 1 or 0 for each of ``response_ids``."""

    prompt_ids: list[int]
    response_ids: list[int]
    loss_mask: list[int]


def parse(prompt: Any, columns: Mapping[str, Any]) -> Demonstration:
    """A demonstration from a row's prompt and its other columns.

    These are ``segments``, with ``task`` and ``tags`` where there are any, or ``response``, all of it the model's.

    Raises:
        DataError: names the field that is missing or of another shape.
    """
    segments = columns.get("segments")
    if segments is None and isinstance(columns.get("response"), str):
        segments = [{"owner": "model", "text": columns["response"]}]
    if segments is None:
        raise DataError(f"segments: not there, nor a response; the row has {', '.join(columns) or 'no other columns'}")
    fields = {"prompt": prompt, "segments": segments, "task": columns.get("task")}
    try:
        made = Demonstration.model_validate({**fields, "tags": columns.get("tags") or ()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise DataError(f"{field}: {reason(first)}, not {str(first['input'])[:200]!r}") from None
    if not any(piece.owner == "model" and piece.text for piece in made.segments):
        raise DataError("segments: none is the model's, so there is nothing to learn")
    return made


def read_demonstrations(path: Path) -> Iterator[Demonstration]:
    """The rows of a parquet file with the columns ``prompt`` and either ``metadata``, which holds the others, or them.

    Raises:
        DataError: the file can't be read, is empty, or a row does not fit; the message names the row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows = [row for batch in file.iter_batches() for row in batch.to_pylist()]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: {error}; name a parquet file of demonstrations") from error
    if not rows:
        raise DataError(f"{path}: no rows")
    for number, row in enumerate(rows):
        try:
            if "prompt" not in row:
                raise DataError(f"prompt: no such column; the row has {', '.join(row)}")
            yield parse(row["prompt"], row.get("metadata") or {k: v for k, v in row.items() if k != "prompt"})
        except DataError as error:
            raise DataError(f"{path}, row {number}: {error}") from None


class Encoder:
    """Tokenises demonstrations as the recipes' rollouts would have met them.

    Args:
        template_kwargs: for the chat template.
    """

    def __init__(self, tokenizer: Tokenizer, template_kwargs: Mapping[str, Any] | None = None) -> None:
        self._template_kwargs = dict(template_kwargs or {})
        self._codec = lru_cache(8)(lambda tags: TokenCodec(tokenizer, tags))

    def encode(self, demonstration: Demonstration) -> Encoded:
        """The ids of prompt and response, and the mask of the response.

        Raises:
            DataError: a task is given and the prompt does not hold ``{task}`` once.
        """
        codec: TokenCodec = self._codec(demonstration.tags)
        response_ids: list[int] = []
        loss_mask: list[int] = []
        for piece in demonstration.segments:
            ids = codec.untrusted(piece.text) if piece.owner == "world" else codec.trusted(piece.text)
            response_ids += ids
            loss_mask += [int(piece.owner == "model")] * len(ids)
        return Encoded(self._prompt(demonstration, codec), response_ids, loss_mask)

    def _prompt(self, demonstration: Demonstration, codec: TokenCodec) -> list[int]:
        prompt = demonstration.prompt
        text = self._rendered(codec, prompt)
        if demonstration.task is None:
            return codec.trusted(text)
        try:
            return PromptTemplate(codec, text, TASK, None).token_ids(demonstration.task)
        except ConfigError as error:
            raise DataError(str(error)) from None

    def _rendered(self, codec: TokenCodec, prompt: str | tuple[dict[str, str], ...]) -> str:
        if isinstance(prompt, str):
            return prompt
        messages = list(prompt)
        template = codec.tokenizer.apply_chat_template
        return str(template(messages, add_generation_prompt=True, tokenize=False, **self._template_kwargs))
