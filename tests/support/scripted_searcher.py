"""A server in the shape of the Searcher service's ``/search`` whose answers a Python function writes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from tests.support.loopback import Fault, LoopbackServer, json_response

Answer = Callable[[str], str | None]
"""From a question to the answer; None for a Searcher that found none."""


@dataclass(frozen=True)
class Question:
    """One request."""

    number: int
    body: dict[str, Any]

    @property
    def text(self) -> str:
        (question,) = self.body["queries"]
        return str(question)


def row(question: str, answer: str | None) -> dict[str, Any]:
    """What the service tells of one question."""
    last = "<search> more </search>" if answer is None else f"<answer> {answer} </answer>"
    return {
        "question": question,
        "answer": answer,
        "ending": "out_of_turns" if answer is None else "answered",
        "turns": [
            {"text": f"<search> {question} </search>", "observation": "<information>found</information>"},
            {"text": last, "observation": ""},
        ],
        "queries": [question],
        "passages": [{"title": "T", "text": f"about {question}"}],
        "seconds": {"total": 0.3, "model": 0.2, "search": 0.1},
    }


class ScriptedSearcher(LoopbackServer):
    """``script`` may name a fault for any request."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer
        self.script: Callable[[Question], Fault | None] = lambda question: None
        self.asked: list[Question] = []

    @property
    def search_url(self) -> str:
        return f"{self.url}/search"

    @property
    def questions(self) -> list[str]:
        return [one.text for one in self.asked]

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/search", self._search)]

    async def _search(self, request: web.Request) -> web.StreamResponse:
        question = Question(len(self.asked), orjson.loads(await request.read()))
        self.asked.append(question)
        fault = self.script(question)
        answer = {"results": [row(question.text, self._answer(question.text))]}
        return json_response(answer) if fault is None else await fault(request, answer)
