"""A synthetic encyclopedia: people, towns and companies that do not exist, and questions about them.

Nothing in it can be known beforehand, so an agent answers only by searching. It has three closed worlds: one for the
cold start, one for reinforcement learning, one for the held-out test. They lie in one corpus, but no name is shared
between them and no fact leads from one into another: what is measured on the third world is skill, not memory.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from slime_search.local.lexicon import COMPANY_ENDINGS, PRODUCTS, PROFESSIONS, TOWN_ENDINGS, Lexicon


class Kind(StrEnum):
    """What an entity is."""

    TOWN = "town"
    PERSON = "person"
    COMPANY = "company"


@dataclass(frozen=True)
class Relation:
    """A kind of fact: of what it holds, the word that asks for it in a query, and the sentence that states it."""

    kind: Kind
    keyword: str
    sentence: str


COUNTRY = Relation(Kind.TOWN, "country", "{subject} is a town of {value}.")
SETTLED = Relation(Kind.TOWN, "settled", "{subject} was settled in {value}.")
PROFESSION = Relation(Kind.PERSON, "profession", "{subject} was a {value}.")
HOME_TOWN = Relation(Kind.PERSON, "home", "{subject} came from {value}.")
BIRTH_YEAR = Relation(Kind.PERSON, "born", "{subject} was born in {value}.")
PRODUCT = Relation(Kind.COMPANY, "makes", "{subject} makes {value}.")
SEAT = Relation(Kind.COMPANY, "based", "{subject} is based at {value}.")
FOUNDER = Relation(Kind.COMPANY, "founder", "{subject} was founded by {value}.")

# A fact's sentence and the document put the same word before its value (of, a, from, in, makes, at, by), so that even a
# model of three layers can learn in minutes to look it up.
DOCUMENTS = {
    Kind.TOWN: ("{name} is a town of {}, settled in {}.", (COUNTRY, SETTLED)),
    Kind.PERSON: ("{name} was a {} from {}, born in {}.", (PROFESSION, HOME_TOWN, BIRTH_YEAR)),
    Kind.COMPANY: ("{name} makes {} at {} and was founded by {}.", (PRODUCT, SEAT, FOUNDER)),
}

QUESTION_TEMPLATES: dict[int, tuple[tuple[str, tuple[Relation, ...]], ...]] = {
    1: (
        ("Which country is {} in?", (COUNTRY,)),
        ("When was {} settled?", (SETTLED,)),
        ("What was the profession of {}?", (PROFESSION,)),
        ("Where did {} come from?", (HOME_TOWN,)),
        ("In which year was {} born?", (BIRTH_YEAR,)),
        ("What does {} make?", (PRODUCT,)),
        ("Where is {} based?", (SEAT,)),
        ("Who founded {}?", (FOUNDER,)),
    ),
    2: (
        ("Which country did {} come from?", (HOME_TOWN, COUNTRY)),
        ("In which country is {} based?", (SEAT, COUNTRY)),
        ("Where did the founder of {} come from?", (FOUNDER, HOME_TOWN)),
        ("What was the profession of the founder of {}?", (FOUNDER, PROFESSION)),
    ),
}
"""Question templates by the number of facts that lead to the answer."""


@dataclass(frozen=True)
class Entity:
    """Something with a document of its own."""

    kind: Kind
    name: str
    facts: dict[Relation, str]

    @property
    def text(self) -> str:
        """The document, which states every fact of the entity and is titled with its name."""
        template, relations = DOCUMENTS[self.kind]
        return template.format(*(self.facts[relation] for relation in relations), name=self.name)


@dataclass(frozen=True)
class Fact:
    """`subject` stands in `relation` to `value`."""

    subject: str
    relation: Relation
    value: str


@dataclass(frozen=True)
class Question:
    """A question and the facts that lead to its answer: the value of each is the subject of the next."""

    text: str
    chain: tuple[Fact, ...]

    @property
    def answer(self) -> str:
        return self.chain[-1].value


@dataclass(frozen=True)
class WorldSize:
    """How many entities of each kind a world has."""

    people: int
    towns: int
    companies: int


@dataclass(frozen=True)
class World:
    """Entities by name. Every town and person that a fact of this world mentions is in it."""

    entities: dict[str, Entity]

    def of_kind(self, kind: Kind) -> list[Entity]:
        """The entities of one kind, in the order they were made."""
        return [entity for entity in self.entities.values() if entity.kind is kind]

    def ask(self, template: str, relations: tuple[Relation, ...], subject: str) -> Question:
        """Fills in a question template about `subject` and follows its relations to the answer."""
        chain: list[Fact] = []
        current = subject
        for relation in relations:
            value = self.entities[current].facts[relation]
            chain.append(Fact(current, relation, value))
            current = value
        return Question(template.format(subject), tuple(chain))

    def all_questions(self) -> Iterator[Question]:
        """Every question that can be asked about this world, once."""
        for template, relations in itertools.chain.from_iterable(QUESTION_TEMPLATES.values()):
            for entity in self.of_kind(relations[0].kind):
                yield self.ask(template, relations, entity.name)

    def questions(self, rng: random.Random, hops: Sequence[int] = (1, 2)) -> Iterator[Question]:
        """Endless random questions, of each number of hops as many. They repeat themselves: a world is finite."""
        subjects = {kind: [entity.name for entity in self.of_kind(kind)] for kind in Kind}
        while True:
            template, relations = rng.choice(QUESTION_TEMPLATES[rng.choice(hops)])
            yield self.ask(template, relations, rng.choice(subjects[relations[0].kind]))


@dataclass(frozen=True)
class Encyclopedia:
    """Three disjoint worlds made of one lexicon."""

    lexicon: Lexicon
    cold_start: World
    train: World
    held_out: World

    @property
    def worlds(self) -> tuple[World, World, World]:
        return self.cold_start, self.train, self.held_out

    @property
    def entities(self) -> dict[str, Entity]:
        """All entities of all worlds by name."""
        return {name: entity for world in self.worlds for name, entity in world.entities.items()}


COLD_START_SIZE = WorldSize(people=400, towns=150, companies=150)
TRAIN_SIZE = WorldSize(people=250, towns=100, companies=100)
HELD_OUT_SIZE = WorldSize(people=150, towns=60, companies=60)


def invent_encyclopedia(
    seed: int,
    cold_start: WorldSize = COLD_START_SIZE,
    train: WorldSize = TRAIN_SIZE,
    held_out: WorldSize = HELD_OUT_SIZE,
) -> Encyclopedia:
    """Invents an encyclopedia; one seed always gives the same one. The default sizes make 1,420 documents.

    Raises:
        ValueError: the worlds together ask for more names than the lexicon has.
    """
    rng = random.Random(f"encyclopedia {seed}")
    lexicon = Lexicon.invent(rng)
    names = {
        Kind.TOWN: _shuffled_names(rng, lexicon.town_words, TOWN_ENDINGS),
        Kind.PERSON: _shuffled_names(rng, lexicon.first_names, lexicon.last_names),
        Kind.COMPANY: _shuffled_names(rng, lexicon.company_words, COMPANY_ENDINGS),
    }
    worlds = [_invent_world(rng, lexicon, names, size) for size in (cold_start, train, held_out)]
    return Encyclopedia(lexicon, *worlds)


def _shuffled_names(rng: random.Random, firsts: tuple[str, ...], seconds: tuple[str, ...]) -> list[str]:
    names = [f"{first} {second}" for first, second in itertools.product(firsts, seconds)]
    rng.shuffle(names)
    return names


def _invent_world(rng: random.Random, lexicon: Lexicon, names: dict[Kind, list[str]], size: WorldSize) -> World:
    """Takes the names of a new world out of `names`, so that no later world gets them."""

    def take(kind: Kind, count: int) -> list[str]:
        if count > len(names[kind]):
            raise ValueError(f"{count} more {kind} names needed, {len(names[kind])} left: make the worlds smaller")
        return [names[kind].pop() for _ in range(count)]

    town_names, people_names = take(Kind.TOWN, size.towns), take(Kind.PERSON, size.people)
    company_names = take(Kind.COMPANY, size.companies)
    towns = [
        Entity(Kind.TOWN, name, {COUNTRY: rng.choice(lexicon.countries), SETTLED: rng.choice(lexicon.years)})
        for name in town_names
    ]
    people = [
        Entity(
            Kind.PERSON,
            name,
            {
                PROFESSION: rng.choice(PROFESSIONS),
                HOME_TOWN: rng.choice(town_names),
                BIRTH_YEAR: rng.choice(lexicon.years),
            },
        )
        for name in people_names
    ]
    companies = [
        Entity(
            Kind.COMPANY,
            name,
            {SEAT: rng.choice(town_names), PRODUCT: rng.choice(PRODUCTS), FOUNDER: rng.choice(people_names)},
        )
        for name in company_names
    ]
    return World({entity.name: entity for entity in (*towns, *people, *companies)})
