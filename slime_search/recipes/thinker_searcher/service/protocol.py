"""The service's ``/search``: requests, answers and errors."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from slime_search.core.tool import MAX_QUERY_CHARS
from slime_search.errors import Interrupted, ServiceError, SlimeSearchError
from slime_search.recipes.thinker_searcher.client import Finding

MAX_QUESTIONS = 1_024
MAX_TURNS = 32
MAX_BODY_BYTES = 2 * MAX_QUESTIONS * MAX_QUERY_CHARS


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class SearchRequest(BaseModel):
    """Fields that are not named here are ignored."""

    queries: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS)]],
        Field(max_length=MAX_QUESTIONS, fail_fast=True),
        BeforeValidator(_listed),
    ] = Field(
        validation_alias=AliasChoices("queries", "query"),
        description="A list of questions, or one; a request without it may send `query` instead.",
    )
    max_turns: int | None = Field(
        None, ge=0, le=MAX_TURNS, description="Searches a question; absent or null means the service's default."
    )


class Turn(BaseModel):
    text: str
    """What the Searcher wrote."""
    observation: str
    """What it read then; empty after the last turn."""


class PassageRow(BaseModel):
    title: str
    text: str


class Seconds(BaseModel):
    total: float
    model: float
    search: float


class Found(BaseModel):
    """What became of one question. ``answer`` is null when the Searcher gave none within its turns and tokens."""

    question: str
    answer: str | None
    ending: str
    turns: list[Turn]
    queries: list[str]
    passages: list[PassageRow]
    seconds: Seconds


class Failure(BaseModel):
    """Why there is no answer, and whose fault it is."""

    type: Literal["service_failed", "interrupted", "failed"]
    service: str
    message: str


class Failed(BaseModel):
    """A question that a service failed. It has no ``answer``."""

    question: str
    error: Failure


class SearchResponse(BaseModel):
    """A row for every question, in order."""

    results: list[Found | Failed]


class NoAnswer(BaseModel):
    """Every question of the request failed; the first one's error."""

    error: Failure


def found(question: str, finding: Finding) -> dict[str, Any]:
    """The row of a question that did not fail, in ``Found``'s shape."""
    return {
        "question": question,
        "answer": finding.answer,
        "ending": finding.ending,
        "turns": [{"text": turn.text, "observation": turn.observation} for turn in finding.turns],
        "queries": list(finding.queries),
        "passages": [{"title": passage.title, "text": passage.text} for passage in finding.passages],
        "seconds": dict(finding.seconds),
    }


def failed(question: str, error: SlimeSearchError) -> dict[str, Any]:
    """The row of one that did, in ``Failed``'s shape."""
    match error:
        case ServiceError():
            kind, service = "service_failed", error.service
        case Interrupted():
            kind, service = "interrupted", "searcher's engine"
        case _:
            kind, service = "failed", "searcher"
    return {"question": question, "error": {"type": kind, "service": service, "message": str(error)}}
