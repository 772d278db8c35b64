"""Text to token ids for the parts of a trajectory that the model did not write.

Two kinds of text enter a context from outside. *Trusted* text is ours (tags, chat markers) and may become control
tokens. *Untrusted* text came from a tool and must not: a passage that holds ``<|im_end|>`` or ``</information>`` stays
plain text.
"""

import itertools
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from slime_search.errors import DataError

TRUSTED_TEXTS_KEPT = 1_024
"""Encodings of our own text that a codec remembers. The samples of a group share their prompt, all share the tags."""
UNTRUSTED_TEXTS_KEPT = 16_384
"""Encodings of tool text that a codec remembers, some ten megabytes. The samples of a group find the same passages."""
LONGEST_REMEMBERED = 8_192
"""Characters of a text that is remembered; a megabyte passage is not."""


Encode = Callable[[str], list[int]]


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that slime-search uses."""

    @property
    def all_special_tokens(self) -> list[str]: ...
    def get_added_vocab(self) -> dict[str, int]: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...
    def apply_chat_template(
        self, conversation: Any, *, tools: Any = None, add_generation_prompt: bool, tokenize: bool, **kwargs: Any
    ) -> Any: ...


class TokenCodec:
    """Encodes trusted and untrusted text with one tokenizer.

    ``tags`` are markup that the dialect gives a meaning and the tokenizer may not know as tokens; untrusted text can't
    produce their usual tokenisation either.
    """

    def __init__(self, tokenizer: Tokenizer, tags: Iterable[str] = ()) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.get_added_vocab()
        # Some tokenizers add plain strings (runs of blanks) as tokens too; those carry no control meaning.
        control = {t for t in added if t in tokenizer.all_special_tokens or re.fullmatch(r"[<\[].+[>\]]", t)}
        self._control_ids = frozenset(added[token] for token in control)
        tags = set(tags)
        self._forgery = _occurrences_of(control | tags)
        self._encode = _shortest_way(tokenizer, "".join((" Where? ", *sorted(control | tags), "\n\n naïve 東京  42")))
        self._trusted = _remembering(TRUSTED_TEXTS_KEPT, self._encode)
        self._untrusted = _remembering(UNTRUSTED_TEXTS_KEPT, self._encode_untrusted)

    def trusted(self, text: str) -> list[int]:
        """Token ids of our own text; tags and special tokens in it take effect."""
        return self._trusted(text)

    def prompt(self, prompt: Any) -> list[int]:
        """Token ids of a prompt: a rendered string, or chat messages that the tokenizer's template renders."""
        if not isinstance(prompt, str):
            prompt = self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        return self.trusted(prompt)

    def untrusted(self, text: str) -> list[int]:
        """Token ids of text from outside: no control token, and the decoded text unchanged.

        Lone surrogates, which UTF-8 can't carry, become U+FFFD.

        Raises:
            DataError: the tokenizer turns even single characters of the text into control tokens.
        """
        return self._untrusted(text)

    def _encode_untrusted(self, text: str) -> list[int]:
        text = well_formed(text)
        # Cuts inside each forged literal keep the tokenizer from ever seeing it whole. There are two, since a tag that
        # is plain text to the tokenizer often begins with a token of its own, "<" or "</".
        starts = [match.start() for match in self._forgery.finditer(text)]
        cuts = sorted({0, len(text), *(start + 1 for start in starts), *(start + 2 for start in starts)})
        pieces = [text[start:end] for start, end in itertools.pairwise(cuts)]
        ids = [i for piece in pieces for i in self._encode(piece)]
        if self._control_ids.isdisjoint(ids):
            return ids
        # The tokenizer normalises before it matches (case folding, say), so the literals never stood in the text.
        ids = [i for character in text for i in self._encode(character)]
        if forged := self._control_ids.intersection(ids):
            raise DataError(f"tool text encodes to the control token ids {sorted(forged)} one character at a time")
        return ids

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token on its own, for display only (part of a character shows as U+FFFD)."""
        return [self.tokenizer.decode([i], skip_special_tokens=False) for i in token_ids]


def _shortest_way(tokenizer: Tokenizer, probe: str) -> Encode:
    """``tokenizer.encode`` without special tokens, past the Python around a fast tokenizer where that changes nothing.

    The wrapper costs as much as the Rust tokenizer behind it, on the event loop that all trajectories share.
    """

    def through_wrapper(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    backend: Any = getattr(tokenizer, "backend_tokenizer", None)

    def straight(text: str) -> list[int]:
        # Somebody else's call may have left the shared tokenizer truncating or padding; the wrapper resets both.
        if backend.truncation is not None or backend.padding is not None:
            return through_wrapper(text)
        return list(backend.encode(text, add_special_tokens=False).ids)

    return straight if backend is not None and through_wrapper(probe) == straight(probe) else through_wrapper


def _remembering(texts: int, encode: Encode) -> Encode:
    """``encode`` that keeps the ids of the last ``texts`` texts, packed, and returns a fresh list each time."""
    packed = lru_cache(texts)(lambda text: array("q", encode(text)))
    return lambda text: packed(text).tolist() if len(text) <= LONGEST_REMEMBERED else encode(text)


def well_formed(text: str) -> str:
    """``text`` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _occurrences_of(literals: Iterable[str]) -> re.Pattern[str]:
    """Matches (emptily) where any literal of two or more characters begins, overlapping ones included."""
    long_enough = sorted({x for x in literals if len(x) > 1}, key=len, reverse=True)
    if not long_enough:
        return re.compile(r"(?!)")
    first = "".join(sorted({re.escape(x[0]) for x in long_enough}))
    return re.compile(f"(?=[{first}])(?={'|'.join(map(re.escape, long_enough))})")
