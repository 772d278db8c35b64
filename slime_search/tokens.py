"""Text to token ids for the parts of a trajectory that the model did not write.

Two kinds of text enter a context from outside. *Trusted* text is ours (tags, chat markers) and may become control
tokens. *Untrusted* text came from a tool and must not: a passage that holds ``<|im_end|>`` or ``</information>`` stays
plain text.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from slime_search.errors import DataError


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that slime-search uses."""

    @property
    def all_special_tokens(self) -> list[str]: ...
    def get_added_vocab(self) -> dict[str, int]: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...
    def apply_chat_template(self, conversation: Any, *, add_generation_prompt: bool, tokenize: bool) -> Any: ...


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
        self._forgery = _occurrences_of(control | set(tags))

    def trusted(self, text: str) -> list[int]:
        """Token ids of our own text; tags and special tokens in it take effect."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def untrusted(self, text: str) -> list[int]:
        """Token ids of text from outside: no control token, and the decoded text unchanged.

        Lone surrogates, which UTF-8 can't carry, become U+FFFD.

        Raises:
            DataError: the tokenizer turns even single characters of the text into control tokens.
        """
        text = well_formed(text)
        # Cuts inside each forged literal keep the tokenizer from ever seeing it whole. There are two, since a tag that
        # is plain text to the tokenizer often begins with a token of its own, "<" or "</".
        starts = [match.start() for match in self._forgery.finditer(text)]
        cuts = sorted({0, len(text), *(start + 1 for start in starts), *(start + 2 for start in starts)})
        pieces = [text[start:end] for start, end in itertools.pairwise(cuts)]
        ids = [i for piece in pieces for i in self.trusted(piece)]
        if self._control_ids.isdisjoint(ids):
            return ids
        # The tokenizer normalises before it matches (case folding, say), so the literals never stood in the text.
        ids = [i for character in text for i in self.trusted(character)]
        if forged := self._control_ids.intersection(ids):
            raise DataError(f"tool text encodes to the control token ids {sorted(forged)} one character at a time")
        return ids

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token on its own, for display only (part of a character shows as U+FFFD)."""
        return [self.tokenizer.decode([i], skip_special_tokens=False) for i in token_ids]


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
