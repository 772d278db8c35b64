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
_POSSESSIVE = re.compile(r"['’]s\b", re.IGNORECASE)


def split_words(text: str) -> list[str]:
    """All words in order. Nothing is stemmed or left out as a stop word."""
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

    English is Lucene's EnglishAnalyzer: without possessives and 33 stop words, stemmed by Porter.

    Raises:
        SetupError: the stemmers are not installed.
    """
    if language == Language.NONE:
        return split_words
    if importlib.util.find_spec("Stemmer") is None:
        raise SetupError(f"bm25_language: {language} needs stemmers", "run: pip install PyStemmer")
    import Stemmer

    stop_words = frozenset(_stop_words(language))
    stemmer = Stemmer.Stemmer("porter" if language == Language.ENGLISH else str(language))

    def split(text: str) -> list[str]:
        if language == Language.ENGLISH:
            text = _POSSESSIVE.sub("", text)
        stemmed: list[str] = stemmer.stemWords([word for word in split_words(text) if word not in stop_words])
        return stemmed

    return split


def _stop_words(language: Language) -> Sequence[str]:
    from bm25s import stopwords

    name = "EN" if language == Language.ENGLISH else language.upper()
    words: Sequence[str] = getattr(stopwords, f"STOPWORDS_{name}")
    return words
