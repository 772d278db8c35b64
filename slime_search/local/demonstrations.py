"""Demonstrations for the cold start, written by a teacher that knows the format but not how to search well.

The teacher uses the real retriever and the dialect of the rollouts, so the policy meets the same token ids in both. It
mostly guesses, and its searches often go wrong: the cold start teaches what a turn looks like and how to read a
result, and leaves to reinforcement learning that searching pays.
"""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from slime_search.dialects.base import CallTools, ToolCall
from slime_search.local.sources import Consulted, Habits, Source, any_value
from slime_search.local.styles import EOS, TAGS, Style
from slime_search.local.world import QUESTION_TEMPLATES, Encyclopedia, Question, Relation
from slime_search.tokens import TokenCodec
from slime_search.trajectory import Owner

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
        style: how it writes.
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
        style: Style = TAGS,
        role: str = ONLY_ROLE,
    ) -> None:
        self._entities = encyclopedia.entities
        self._source = source
        self._style = style
        self._role = role
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
                relation = question.chain[-1].relation
                guess = any_value(self._entities, relation, self._rng)
                segments.append(self._answers(f"{learned}{GUESSING}", subject, relation, guess))
                break
            consulted = self._source.consult(subject, fact.relation, self._habits, self._rng)
            thought = learned + (FOLLOWING_UP if hop else SEARCHING).format(subject=subject)
            segments.append(Turn(Owner.MODEL, self._style.search_turn(thought, consulted.query)))
            segments.append(Turn(Owner.WORLD, self._observation(consulted)))
            learned = fact.relation.sentence.format(subject=subject, value=consulted.value) + " "
            asked, subject = subject, consulted.value
        else:
            segments.append(self._answers(learned.strip(), asked, fact.relation, subject))
        return Demonstration(question.text, tuple(segments), self._role)

    def _observation(self, consulted: Consulted) -> str:
        call = CallTools((ToolCall(self._style.tool, consulted.query),))
        observation = self._dialect.observation(self._codec, call, [consulted.result], turn_ids=self._end_ids)
        assert observation is not None  # only a token budget can leave nothing
        return observation.text

    def _answers(self, thought: str, subject: str, relation: Relation, value: str) -> Turn:
        answer = relation.sentence.format(subject=subject, value=value) if self._style.answers_in_sentences else value
        return Turn(Owner.MODEL, self._style.answer_turn(thought, answer))

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
