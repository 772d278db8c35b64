"""The invented words that names, places and years of the synthetic encyclopedia are made of."""

import random
from dataclasses import dataclass
from typing import Self

# fmt: off
ONSETS = (
    "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "kr", "tr", "sk", "st", "th",
    "gl",
)
VOWELS = ("a", "e", "i", "o", "u")
FIRST_VOWELS = (*VOWELS, "ae", "ia")
CODAS = ("", "n", "r", "l", "s", "m", "sh", "k", "nd")
WORD_LENGTHS = range(4, 9)

TOWN_ENDINGS = (
    "Haven", "Ford", "Hollow", "Reach", "Mills", "Harbor", "Cross", "Vale", "Bridge", "Point", "Field", "Heights",
)
COMPANY_ENDINGS = ("Works", "Guild", "Press", "Foundry", "Labs", "Mill", "Society", "Trust")
# All begin with a consonant sound, so "a {profession}" is always right.
PROFESSIONS = (
    "painter", "botanist", "surgeon", "poet", "composer", "chemist", "sailor", "sculptor",
    "printer", "weaver", "lawyer", "geologist", "baker", "mason", "potter", "judge",
)
PRODUCTS = (
    "clocks", "lamps", "paper", "ships", "bells", "glass", "silk", "engines",
    "maps", "tea", "boots", "violins", "bricks", "lenses", "cheese", "soap",
)
# fmt: on


@dataclass(frozen=True)
class Lexicon:
    """Words for one encyclopedia. Apart from the fixed lists above, no word appears in two fields."""

    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    town_words: tuple[str, ...]
    company_words: tuple[str, ...]
    countries: tuple[str, ...]
    years: tuple[str, ...] = tuple(str(year) for year in range(1780, 1940))

    @classmethod
    def invent(cls, rng: random.Random) -> Self:
        """Draws a lexicon large enough for 10,000 people, 960 towns and 480 companies."""
        words = iter(_invent_words(rng, 364))

        def take(count: int) -> tuple[str, ...]:
            return tuple(next(words) for _ in range(count))

        return cls(
            first_names=take(100),
            last_names=take(100),
            town_words=take(80),
            company_words=take(60),
            countries=tuple(f"{word}land" for word in take(24)),
        )

    def words(self) -> list[str]:
        """Every word that can be part of an answer."""
        invented = [*self.first_names, *self.last_names, *self.town_words, *self.company_words, *self.countries]
        return [*invented, *self.years, *TOWN_ENDINGS, *COMPANY_ENDINGS, *PROFESSIONS, *PRODUCTS]


def _invent_words(rng: random.Random, count: int) -> list[str]:
    """`count` distinct capitalised words of two syllables."""
    words: dict[str, None] = {}
    while len(words) < count:
        first = rng.choice(ONSETS) + rng.choice(FIRST_VOWELS)
        second = rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS)
        word = (first + second).capitalize()
        if len(word) in WORD_LENGTHS:
            words[word] = None
    return list(words)
