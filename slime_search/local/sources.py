"""Where a teacher of demonstrations looks a fact up: in documents, or by asking another agent."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from slime_search.local.world import QUESTION_TEMPLATES, Encyclopedia, Entity, Relation
from slime_search.tools.base import Passage, ToolResult, passages_result

QUESTION_ABOUT = {chain[0]: template for template, chain in QUESTION_TEMPLATES[1]}
"""The one-hop question that asks for a relation."""


@dataclass(frozen=True)
class Habits:
    """How often a teacher does something, as a probability at each occasion."""

    searches: float = 0.4
    """It looks the question up instead of guessing."""
    follows_up: float = 0.6
    """Between two hops it searches again instead of guessing."""
    queries_badly: float = 0.1
    """Its query lacks the name it needs."""
    reads_wrong_document: float = 0.05
    """It takes its fact from a document about something else."""


UNSKILLED = Habits()
"""Of a teacher that leaves most to be learned."""
SKILLED = Habits(searches=1.0, follows_up=1.0, queries_badly=0.02, reads_wrong_document=0.0)
"""Of a teacher whose pupil is to know its trade."""


class Consulted(NamedTuple):
    """A query, what came back, and the value that the teacher reads there, right or wrong."""

    query: str
    result: ToolResult
    value: str


class Source(Protocol):
    def consult(self, subject: str, relation: Relation, habits: Habits, rng: random.Random) -> Consulted:
        """Looks up one fact."""
        ...


class Documents:
    """A search engine over the encyclopedia."""

    def __init__(self, encyclopedia: Encyclopedia, search: Callable[[str], Sequence[Passage]]) -> None:
        self._entities = encyclopedia.entities
        self._search = search

    def consult(self, subject: str, relation: Relation, habits: Habits, rng: random.Random) -> Consulted:
        query = self._query(subject, relation, habits, rng)
        passages = self._search(query)
        return Consulted(query, passages_result(tuple(passages)), self._read(passages, subject, relation, habits, rng))

    def _query(self, subject: str, relation: Relation, habits: Habits, rng: random.Random) -> str:
        if rng.random() >= habits.queries_badly:
            return f"{subject} {relation.keyword}"
        stranger = rng.choice(list(self._entities))
        return rng.choice(
            (relation.keyword, f"{relation.keyword} {subject.split()[1]}", f"{stranger} {relation.keyword}")
        )

    def _read(
        self, passages: Sequence[Passage], subject: str, relation: Relation, habits: Habits, rng: random.Random
    ) -> str:
        """The right value, another document's, or a guess."""
        found = [self._entities[passage.title] for passage in passages]
        wanted = [entity for entity in found if entity.name == subject and relation in entity.facts]
        if wanted and rng.random() >= habits.reads_wrong_document:
            return wanted[0].facts[relation]
        values = [entity.facts[relation] for entity in found if relation in entity.facts]
        return rng.choice(values) if values else any_value(self._entities, relation, rng)


class Colleague:
    """Another agent, which answers a one-hop question in a sentence."""

    def __init__(self, encyclopedia: Encyclopedia) -> None:
        self._entities = encyclopedia.entities

    def consult(self, subject: str, relation: Relation, habits: Habits, rng: random.Random) -> Consulted:
        asked, wanted = subject, relation
        if rng.random() < habits.queries_badly:
            kin = [entity.name for entity in self._entities.values() if relation in entity.facts]
            asked = rng.choice(kin)
        value = self._entities[asked].facts[wanted]
        answer = wanted.sentence.format(subject=asked, value=value)
        return Consulted(QUESTION_ABOUT[wanted].format(asked), ToolResult((answer,)), value)


def any_value(entities: Mapping[str, Entity], relation: Relation, rng: random.Random) -> str:
    """A guess: the value that some entity has."""
    entity = rng.choice([e for e in entities.values() if relation in e.facts])
    return entity.facts[relation]
