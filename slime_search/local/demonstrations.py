"""Demonstrations for the cold start, written by a teacher that knows the format but not how to search well.

The teacher uses the real retriever and the dialect of the rollouts, so the policy meets the same token ids in both. It
mostly guesses, and its searches often go wrong: the cold start teaches what a turn looks like and how to read a
result, and leaves to reinforcement learning that searching pays.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from transformers import PreTrainedTokenizerBase

from slime_search.core.dialect import CallTools, ToolCall
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import Passage, ToolResult, passages_result
from slime_search.core.trajectory import Owner
from slime_search.local.policy_format import EOS, TAGS, PolicyFormat
from slime_search.local.world import QUESTION_TEMPLATES, Encyclopedia, Entity, Question, Relation

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


class Lookup(NamedTuple):
    """A query, what came back, and the value that the teacher reads there, right or wrong."""

    query: str
    result: ToolResult
    value: str


class Source(Protocol):
    def look_up(self, subject: str, relation: Relation, habits: Habits, rng: random.Random) -> Lookup:
        """Looks up one fact."""
        ...


class Documents:
    """A search engine over the encyclopedia."""

    def __init__(self, encyclopedia: Encyclopedia, search: Callable[[str], Sequence[Passage]]) -> None:
        self._entities = encyclopedia.entities
        self._search = search

    def look_up(self, subject: str, relation: Relation, habits: Habits, rng: random.Random) -> Lookup:
        query = self._query(subject, relation, habits, rng)
        passages = self._search(query)
        return Lookup(query, passages_result(tuple(passages)), self._read(passages, subject, relation, habits, rng))

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


class AnsweringAgent:
    """Another agent, which answers a one-hop question in a sentence."""

    def __init__(self, encyclopedia: Encyclopedia) -> None:
        self._entities = encyclopedia.entities

    def look_up(self, subject: str, relation: Relation, habits: Habits, rng: random.Random) -> Lookup:
        asked, wanted = subject, relation
        if rng.random() < habits.queries_badly:
            kin = [entity.name for entity in self._entities.values() if relation in entity.facts]
            asked = rng.choice(kin)
        value = self._entities[asked].facts[wanted]
        answer = wanted.sentence.format(subject=asked, value=value)
        return Lookup(QUESTION_ABOUT[wanted].format(asked), ToolResult((answer,)), value)


def any_value(entities: Mapping[str, Entity], relation: Relation, rng: random.Random) -> str:
    """A guess: the value that some entity has."""
    entity = rng.choice([e for e in entities.values() if relation in e.facts])
    return entity.facts[relation]


SEARCHING = "I search for {subject}."
FOLLOWING_UP = "Then I look up {subject}."
GUESSING = "I know this."
ONLY_ROLE = "agent"
"""The role of a model that has one."""


def _phrases() -> list[str]:
    templates = [template for level in QUESTION_TEMPLATES.values() for template in level]
    relations = {relation: None for _, chain in templates for relation in chain}
    return [
        *(f"Question: {text}\n" for text, _ in templates),
        *(f" {relation.sentence} {relation.keyword} " for relation in relations),
        f" {SEARCHING} {FOLLOWING_UP} {GUESSING} ",
        "\n\nDoc 1(Title: A) \nDoc 2(Title: A) \nDoc 3(Title: A) \n",
    ]


PHRASES = _phrases()
"""Everything but names that the prompts, the teacher and the world write: what a tokenizer should know."""


@dataclass(frozen=True)
class Turn:
    """Text with one owner: a whole turn of the model, or what the world answers."""

    owner: Owner
    text: str


@dataclass(frozen=True)
class Demonstration:
    """A question and the teacher's run at it, from the first thought to the answer."""

    question: str
    segments: tuple[Turn, ...]
    role: str = ONLY_ROLE


class Teacher:
    """Writes demonstrations about one encyclopedia.

    Args:
        source: where it looks facts up.
        policy_format: how it writes.
        role: noted in each demonstration, where one model learns several.
    """

    def __init__(
        self,
        encyclopedia: Encyclopedia,
        source: Source,
        tokenizer: PreTrainedTokenizerBase,
        rng: random.Random,
        habits: Habits | None = None,
        *,
        policy_format: PolicyFormat = TAGS,
        role: str = ONLY_ROLE,
    ) -> None:
        self._entities = encyclopedia.entities
        self._source = source
        self._policy_format = policy_format
        self._role = role
        self._dialect = policy_format.dialect(tokenizer)
        self._codec = TokenCodec(tokenizer, self._dialect.tags)
        self._end_ids = self._codec.trusted(EOS)
        self._rng = rng
        self._habits = habits or Habits()

    def demonstrate(self, question: Question) -> Demonstration:
        """One run at a question, right or wrong."""
        segments: list[Turn] = []
        learned = ""
        subject = question.chain[0].subject
        for hop, fact in enumerate(question.chain):
            if not self._happens(self._habits.follows_up if hop else self._habits.searches):
                relation = question.chain[-1].relation
                guess = any_value(self._entities, relation, self._rng)
                segments.append(self._answers(f"{learned}{GUESSING}", subject, relation, guess))
                break
            lookup = self._source.look_up(subject, fact.relation, self._habits, self._rng)
            thought = learned + (FOLLOWING_UP if hop else SEARCHING).format(subject=subject)
            segments.append(Turn(Owner.MODEL, self._policy_format.search_turn(thought, lookup.query)))
            segments.append(Turn(Owner.WORLD, self._observation(lookup)))
            learned = fact.relation.sentence.format(subject=subject, value=lookup.value) + " "
            asked, subject = subject, lookup.value
        else:
            segments.append(self._answers(learned.strip(), asked, fact.relation, subject))
        return Demonstration(question.text, tuple(segments), self._role)

    def _observation(self, lookup: Lookup) -> str:
        call = CallTools((ToolCall(self._policy_format.tool, lookup.query),))
        observation = self._dialect.observation(self._codec, call, [lookup.result], turn_ids=self._end_ids)
        assert observation is not None  # only a token budget can leave nothing
        return observation.text

    def _answers(self, thought: str, subject: str, relation: Relation, value: str) -> Turn:
        answer = (
            relation.sentence.format(subject=subject, value=value)
            if self._policy_format.answers_in_sentences
            else value
        )
        return Turn(Owner.MODEL, self._policy_format.answer_turn(thought, answer))

    def _happens(self, probability: float) -> bool:
        return self._rng.random() < probability


def write_demonstrations(path: Path, demonstrations: Iterable[Demonstration]) -> None:
    """Writes one JSON object a line.

    ``{"role": …, "question": …, "segments": [{"owner": "model" | "world", "text": …}]}``
    """
    with path.open("w", encoding="utf-8") as file:
        for demonstration in demonstrations:
            segments = [{"owner": turn.owner.value, "text": turn.text} for turn in demonstration.segments]
            record = {"role": demonstration.role, "question": demonstration.question, "segments": segments}
            file.write(json.dumps(record) + "\n")


def read_demonstrations(path: Path) -> Iterator[Demonstration]:
    """Reads what `write_demonstrations` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            turns = tuple(Turn(Owner(s["owner"]), s["text"]) for s in record["segments"])
            yield Demonstration(record["question"], turns, record["role"])
