"""What a Searcher finds out about a question, and the client of the service that runs one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slime_search.core.tokens import well_formed
from slime_search.core.tool import Passage, ToolResult, check_query
from slime_search.errors import InvalidQuery, ServiceRejected, TransientFault
from slime_search.tools.retriever import is_about_the_query
from slime_search.transport.replicas import Replicas

NO_ANSWER = "The searcher found no answer."
"""What is read in place of an answer when the Searcher used its turns or tokens up without giving one."""


@dataclass(frozen=True, slots=True)
class SearcherTurn:
    """What the Searcher wrote, and what it read then; its last turn is mostly followed by nothing."""

    text: str
    observation: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one question.

    ``answer`` is None when the Searcher ended without one, which is no failure. ``passages`` are those that it found,
    each once. ``seconds`` are ``total``, ``model`` (its engine) and ``search`` (its retriever), waiting included.
    """

    answer: str | None
    ending: str
    turns: tuple[SearcherTurn, ...] = ()
    queries: tuple[str, ...] = ()
    passages: tuple[Passage, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict, hash=False)

    def result(self) -> ToolResult:
        """The answer alone to be read, the passages as evidence, and everything else for metrics and reports."""
        return ToolResult(
            blocks=(NO_ANSWER if self.answer is None else self.answer,),
            passages=self.passages,
            details={
                "answer": self.answer,
                "ending": self.ending,
                "turns": [turn.text for turn in self.turns],
                "queries": list(self.queries),
                "seconds": dict(self.seconds),
            },
        )


class SearcherService:
    """Asks Searcher services over their ``/search``.

    Args:
        servers: where ``/search`` is answered.
        max_turns: searches that a question may take.
    """

    def __init__(self, servers: Replicas, *, max_turns: int) -> None:
        self._servers = servers
        self._max_turns = max_turns

    async def __call__(self, query: str) -> ToolResult:
        """Has one question answered.

        Raises:
            InvalidQuery: the question is too long, or the service refused it.
            ServiceError: the service, or one that it depends on, failed after the retries. Never read as an answer.
        """
        return (await self.find(query)).result()

    async def find(self, question: str) -> Finding:
        """What the service finds out. Raises InvalidQuery and ServiceError, as a call does."""
        check_query(question)
        payload = {"queries": [well_formed(question)], "max_turns": self._max_turns}
        try:
            return await self._servers.post(payload, _finding_of_one_question)
        except ServiceRejected as refusal:
            if is_about_the_query(refusal):
                raise InvalidQuery(f"the question can't be asked ({refusal.reason})") from refusal
            raise


def _finding_of_one_question(body: Any) -> Finding:
    match body:
        case {
            "results": [
                {
                    "answer": str() | None as answer,
                    "ending": str(ending),
                    "turns": list(turns),
                    "queries": list(queries),
                    "passages": list(passages),
                    "seconds": dict(seconds),
                }
            ]
        }:
            try:
                return Finding(
                    answer=None if answer is None else well_formed(answer),
                    ending=ending,
                    turns=tuple(SearcherTurn(_text(turn["text"]), _text(turn["observation"])) for turn in turns),
                    queries=tuple(map(_text, queries)),
                    passages=tuple(Passage(_text(row["title"]), _text(row["text"])) for row in passages),
                    seconds={stage: float(seconds[stage]) for stage in ("total", "model", "search")},
                )
            except (TypeError, KeyError, ValueError):
                pass
    raise TransientFault(f"not an answer of /search to one query: {str(body)[:300]}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return well_formed(value)
