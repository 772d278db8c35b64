"""The ``/retrieve`` protocol: requests, answers, and the message for a request that does not fit."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, Field, ValidationError, WithJsonSchema

from slime_search.validation import reason, shown

MAX_QUERIES = 4_096
MAX_QUERY_CHARS = 16_384
MAX_TOPK = 1_000
MAX_PASSAGES = 2**18
"""Queries times ``topk``: what one answer may hold."""
MAX_BODY_BYTES = 2 * MAX_QUERIES * MAX_QUERY_CHARS
"""Two bytes a character where every query is as long as it may be."""

DETAILS_HEADER = "X-Slime-Search-Details"
"""A request that has it as "cached" is told which of its results were known. Others get the protocol's answer."""

_EXAMPLE = '{"queries": ["who wrote Emma?"], "topk": 3, "return_scores": true}'
_QUERIES_FIX = (
    f"send a string, or a list of at most {MAX_QUERIES} strings, of at most {MAX_QUERY_CHARS} characters each"
)
_FIXES = {
    "body": f"send a JSON object with Content-Type: application/json, like {_EXAMPLE}",
    "queries": _QUERIES_FIX,
    "query": _QUERIES_FIX,
    "topk": f"send a whole number up to {MAX_TOPK}; 0, null or none is the server's default",
    "return_scores": "send true or false",
}


_Text = Annotated[str, Field(max_length=MAX_QUERY_CHARS)]
_ONE_TEXT = {"type": "string", "maxLength": MAX_QUERY_CHARS}
_EXPLAINED_ERRORS = 3
_REREAD_BYTES = 1 << 20
"""A larger body is read once: making Python's objects of it may take longer than it would for the fault to be found."""
_UNREAD = {"loc": (), "type": "json_invalid"}


class RetrieveRequest(BaseModel):
    """Fields that are not named here are ignored."""

    queries: Annotated[
        list[_Text],
        # One wrong query is enough to know; millions would take seconds to list.
        Field(max_length=MAX_QUERIES, fail_fast=True),
        WithJsonSchema({"anyOf": [_ONE_TEXT, {"type": "array", "items": _ONE_TEXT, "maxItems": MAX_QUERIES}]}),
    ] = Field(
        validation_alias=AliasChoices("queries", "query"),
        description="A list, or one string for a list of one; a request without it may send `query` instead.",
    )
    topk: int | None = Field(
        None, ge=0, le=MAX_TOPK, description="Passages a query; absent, null or 0 means the server's default."
    )
    return_scores: bool = False


class ScoredRow(BaseModel):
    document: dict[str, Any]
    score: float = Field(
        description="The higher the better. An encoder's is the inner product of query and passage; BM25's the sum of "
        "its words' weights; a reranker's the cross-encoder's. With --hybrid it is a measure of ranks and not of "
        "likeness: the sum of 1 / (60 + rank) over BM25's and the encoder's ranking, at most 2 / 61 = 0.0328. It "
        "orders the passages of one answer, and says nothing across queries."
    )


class RetrieveResponse(BaseModel):
    """One list for every query, best first: corpus rows as they are in the file, with their scores if asked for.

    ``cached`` is there only for requests with the header ``X-Slime-Search-Details: cached``.
    """

    result: list[list[ScoredRow]] | list[list[dict[str, Any]]]
    cached: list[bool] | None = None


class Detail(BaseModel):
    """What is wrong with a field of a request, and what to send instead."""

    loc: list[str | int]
    msg: str
    type: str


class Refusal(BaseModel):
    """Why a request was refused and will be again."""

    detail: str | list[Detail]


class NotNow(BaseModel):
    """Why a request was refused that may be sent again. A server that loads tells how far it is."""

    status: Literal["loading", "overloaded", "late", "draining", "unavailable"]
    detail: str | None = None
    step: str | None = None
    done: float | None = None
    total: float | None = None


class AnswerTooLarge(ValueError):
    """A request asks for more passages than one answer may hold; the message names the numbers and the fix."""


def check_answer(queries: int, topk: int) -> None:
    """Raises AnswerTooLarge."""
    if queries * topk > MAX_PASSAGES:
        raise AnswerTooLarge(
            f"topk: {queries} queries with {topk} passages each are {queries * topk} passages, and an answer holds "
            f"at most {MAX_PASSAGES}; send fewer queries a request or a smaller topk"
        )


def explain(error: Mapping[str, Any]) -> str:
    """Says which field of a request does not fit, what it holds and what to send, from one of pydantic's errors."""
    path = [part for part in error["loc"] if part != "body"]
    field = path[0] if path and path[0] in _FIXES else "body"
    field_path = "".join(f"[{part}]" if isinstance(part, int) else part for part in path) if field != "body" else "body"
    found = f", got {shown(error['input'])}" if "input" in error and error["type"] != "missing" else ""
    return f"{field_path}: {reason(error)}{found}; {_FIXES[field]}"


class InvalidRequest(Exception):
    """A request does not fit; ``details`` say what and how to mend it."""

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.details = [
            Detail(loc=["body", *error["loc"]], msg=explain(error), type=error["type"])
            for error in errors[:_EXPLAINED_ERRORS]
        ]


def read_request(body: bytes, content_type: str) -> RetrieveRequest:
    """Raises InvalidRequest."""
    if content_type != "application/json" and not _is_json(content_type):
        raise InvalidRequest([{**_UNREAD, "msg": "not declared as JSON", "input": content_type}])
    try:
        return RetrieveRequest.model_validate_json(body)
    except ValidationError as error:
        if len(body) > _REREAD_BYTES:
            raise InvalidRequest(error.errors(include_url=False, include_input=False)) from None
    return _read_anew(body)


def _read_anew(body: bytes) -> RetrieveRequest:
    """Takes one string for a list of one, and what Python's parser takes and pydantic's does not."""
    try:
        fields = json.loads(body)
        for name in ("queries", "query"):
            if isinstance(fields, dict) and isinstance(fields.get(name), str):
                fields[name] = [fields[name]]
        return RetrieveRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(error.errors(include_url=False)) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest([{**_UNREAD, "msg": f"not valid JSON: {error}"}]) from None


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
