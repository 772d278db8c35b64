"""The words of a text, by which BM25 finds it. Passages and queries are taken apart alike.

A text is normalised (NFKC), so that composed and combining forms, and full and half width, are the same word, and its
case is folded. Runs of letters, marks, digits and underscores are words. Scripts that are written without blanks, and
Korean, whose words carry particles, give every character and every pair of neighbours instead, as Lucene's CJK
analysis does:

>>> split_words("Café in Paris")
['café', 'in', 'paris']
>>> split_words("北京是")
['北', '北京', '京', '京是', '是']
"""

import importlib.util
import re
import unicodedata
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache

import regex

from slime_search.retrieval.errors import SetupError

_PLAIN_WORD = re.compile(r"\w+")
# Latin, Greek and Cyrillic without marks, punctuation, symbols: where nothing is to be taken care of, and most text.
_PLAIN = re.compile(
    r"[\x00-\xac\xae-\u02ff\u0370-\u0482\u048a-\u052f\u2010-\u2027\u2030-\u205e\u20a0-\u20cf\u2100-\u2bff]*"
)
# A letter's marks belong to its word; \w, which leaves them out, would cut there.
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}_]+")
_IGNORED = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_SCRIPTS = "".join(rf"\p{{scx={name}}}" for name in "Han Hira Kana Bopo Hang Thai Laoo Khmr Mymr Tibt".split())
_WITHOUT_BLANKS = regex.compile(rf"(?V1)[[{_SCRIPTS}]&&[\p{{L}}\p{{M}}\p{{N}}]]+")
_CHARACTER = regex.compile(r"\X")
_TURKISH_I = "i\u0307"
"""What "İ" is in lower case; "izmir" should find İzmir."""
_POSSESSIVE = re.compile(r"(?<=\w)['’＇]s\b", re.IGNORECASE)
_UNSTEMMED = 2
"""Letters of the longest words that Lucene's PorterStemmer leaves alone; Snowball's makes "u" of "us"."""
_SUFFIXES = {"bly": "ble", "blies": "ble", "logy": "log", "logies": "log"}
"""Of longer stems, which Lucene's PorterStemmer takes for one; Snowball's, as first published, does not."""
_VOWEL_AND_CONSONANT = re.compile(r"(?:[aeiou]|(?<=[^aeiou])y)(?:[^aeiouy]|(?<=[aeiou])y)")
_STEMS_KEPT = 1 << 17


def split_words(text: str) -> list[str]:
    """All words in order, none of them stemmed or left out."""
    if text.isascii():
        return _PLAIN_WORD.findall(text.lower())
    folded = unicodedata.normalize("NFKC", text).casefold().replace(_TURKISH_I, "i")
    if _PLAIN.fullmatch(folded):
        return _PLAIN_WORD.findall(folded)
    words: list[str] = _WORD.findall(_IGNORED.sub("", folded))
    if not _WITHOUT_BLANKS.search(folded):
        return words
    return [part for word in words for part in _parts(word)]


def _parts(word: str) -> list[str]:
    """A word, and in place of each run of a script without blanks its characters and pairs."""
    parts = []
    end = 0
    for run in _WITHOUT_BLANKS.finditer(word):
        parts += [word[end : run.start()]] if end < run.start() else []
        characters = _CHARACTER.findall(run[0])
        for first, second in zip(characters, [*characters[1:], ""], strict=True):
            parts += [first, first + second] if second else [first]
        end = run.end()
    return parts + ([word[end:]] if end < len(word) else [])


class Language(StrEnum):
    """Whose words are stemmed, and whose stop words left out, as Lucene's analysers for these languages do."""

    NONE = "none"
    DANISH = "danish"
    DUTCH = "dutch"
    ENGLISH = "english"
    FRENCH = "french"
    GERMAN = "german"
    ITALIAN = "italian"
    NORWEGIAN = "norwegian"
    PORTUGUESE = "portuguese"
    RUSSIAN = "russian"
    SPANISH = "spanish"
    SWEDISH = "swedish"
    TURKISH = "turkish"


def splitter_of(language: Language) -> Callable[[str], list[str]]:
    """What takes texts apart: ``split_words``, and for a language also its Snowball stemmer and its stop words.

    English is Lucene's EnglishAnalyzer: possessives and 33 stop words are left out, and words are stemmed by Porter. A
    query of stop words alone has no words then, and finds nothing. What counts as one word stays that of
    ``split_words``, where Lucene keeps "don't", "3,000" and "example.com" whole.

    Raises:
        SetupError: the stemmers are not installed.
    """
    if language == Language.NONE:
        return split_words
    if importlib.util.find_spec("Stemmer") is None:
        raise SetupError(
            f"bm25_language: {language} needs stemmers",
            "run: pip install PyStemmer, or take words as they are with --bm25_language none",
        )
    import Stemmer

    stop_words = frozenset(_stop_words(language))
    if language != Language.ENGLISH:
        stem: Callable[[list[str]], list[str]] = Stemmer.Stemmer(str(language)).stemWords
        return lambda text: stem([word for word in split_words(text) if word not in stop_words])
    porter: Callable[[str], str] = Stemmer.Stemmer("porter").stemWord
    stem_word = lru_cache(_STEMS_KEPT)(lambda word: porter(_with_suffix_of_lucene(word)))

    def split(text: str) -> list[str]:
        words = split_words(_POSSESSIVE.sub("", text))
        return [stem_word(word) if len(word) > _UNSTEMMED else word for word in words if word not in stop_words]

    return split


def _with_suffix_of_lucene(word: str) -> str:
    """The word with the suffix whose stem is also its own in Lucene: "technolog" of "technologies"."""
    for suffix, other in _SUFFIXES.items():
        stem = word.removesuffix(suffix)
        if stem != word and _VOWEL_AND_CONSONANT.search(stem):
            return stem + other
    return word


def _stop_words(language: Language) -> Sequence[str]:
    from bm25s import stopwords

    name = "EN" if language == Language.ENGLISH else language.upper()
    words: Sequence[str] = getattr(stopwords, f"STOPWORDS_{name}")
    return words
