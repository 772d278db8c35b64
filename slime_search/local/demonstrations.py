"""Demonstrations for the cold start, written by a teacher that knows the format but not how to search well.

The teacher uses the real retriever and the dialect of the rollouts, so the policy meets the same token ids in both. It
mostly guesses, and its searches often go wrong: the cold start teaches what a turn looks like and how to read a
result, and leaves to reinforcement learning that searching pays.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from slime_search.dialects.base import CallTools, ToolCall
from slime_search.local.styles import EOS, TAGS, Style
from slime_search.local.world import QUESTION_TEMPLATES, Encyclopedia, Question, Relation
from slime_search.tokens import TokenCodec
from slime_search.tools.base import Passage, passages_result
from slime_search.trajectory import Owner

SEARCHING = "I search for {subject}."
FOLLOWING_UP = "Then I look up {subject}."
GUESSING = "I know this."


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


@dataclass(frozen=True)
class Habits:
    """How often the teacher does something, as a probability at each occasion."""

    searches: float = 0.4
    """It looks the question up instead of guessing."""
    follows_up: float = 0.6
    """Between two hops it searches again instead of guessing."""
    queries_badly: float = 0.1
    """Its query lacks the name it needs."""
    reads_wrong_document: float = 0.05
    """It takes its fact from a document about something else."""


class Teacher:
    """Writes demonstrations about one encyclopedia."""

    def __init__(
        self,
        encyclopedia: Encyclopedia,
        search: Callable[[str], Sequence[Passage]],
        tokenizer: PreTrainedTokenizerBase,
        rng: random.Random,
        habits: Habits | None = None,
        *,
        style: Style = TAGS,
    ) -> None:
        self._entities = encyclopedia.entities
        self._search = search
        self._style = style
        self._dialect = style.dialect(tokenizer)
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
                answer = self._any_value(question.chain[-1].relation)
                segments.append(self._answers(f"{learned}{GUESSING}", answer))
                break
            query = self._query(subject, fact.relation)
            thought = learned + (FOLLOWING_UP if hop else SEARCHING).format(subject=subject)
            segments.append(Turn(Owner.MODEL, self._style.search_turn(thought, query)))
            passages = self._search(query)
            segments.append(Turn(Owner.WORLD, self._observation(query, passages)))
            value = self._read(passages, subject, fact.relation)
            learned = fact.relation.sentence.format(subject=subject, value=value) + " "
            subject = value
        else:
            segments.append(self._answers(learned.strip(), subject))
        return Demonstration(question.text, tuple(segments))

    def _query(self, subject: str, relation: Relation) -> str:
        if not self._happens(self._habits.queries_badly):
            return f"{subject} {relation.keyword}"
        stranger = self._rng.choice(list(self._entities))
        return self._rng.choice(
            (relation.keyword, f"{relation.keyword} {subject.split()[1]}", f"{stranger} {relation.keyword}")
        )

    def _read(self, passages: Sequence[Passage], subject: str, relation: Relation) -> str:
        """The value that the teacher takes from the results: the right one, another document's, or a guess."""
        found = [self._entities[passage.title] for passage in passages]
        wanted = [entity for entity in found if entity.name == subject and relation in entity.facts]
        if wanted and not self._happens(self._habits.reads_wrong_document):
            return wanted[0].facts[relation]
        values = [entity.facts[relation] for entity in found if relation in entity.facts]
        return self._rng.choice(values) if values else self._any_value(relation)

    def _any_value(self, relation: Relation) -> str:
        entity = self._rng.choice([e for e in self._entities.values() if relation in e.facts])
        return entity.facts[relation]

    def _observation(self, query: str, passages: Sequence[Passage]) -> str:
        call = CallTools((ToolCall("search", query),))
        observation = self._dialect.observation(
            self._codec, call, [passages_result(tuple(passages))], turn_ids=self._end_ids
        )
        assert observation is not None  # only a token budget can leave nothing
        return observation.text

    def _answers(self, thought: str, answer: str) -> Turn:
        return Turn(Owner.MODEL, self._style.answer_turn(thought, answer))

    def _happens(self, probability: float) -> bool:
        return self._rng.random() < probability


def write_demonstrations(path: Path, demonstrations: Iterable[Demonstration]) -> None:
    """Writes one JSON object a line: ``{"question": …, "segments": [{"owner": "model" | "world", "text": …}]}``."""
    with path.open("w", encoding="utf-8") as file:
        for demonstration in demonstrations:
            segments = [{"owner": turn.owner.value, "text": turn.text} for turn in demonstration.segments]
            file.write(json.dumps({"question": demonstration.question, "segments": segments}) + "\n")


def read_demonstrations(path: Path) -> Iterator[Demonstration]:
    """Reads what `write_demonstrations` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            turns = tuple(Turn(Owner(s["owner"]), s["text"]) for s in record["segments"])
            yield Demonstration(record["question"], turns)
