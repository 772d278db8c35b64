"""Text to token ids for the parts of a trajectory that the model did not write.

Two kinds of text enter a context from outside. *Trusted* text is ours (tags, chat markers) and may become control
tokens. *Untrusted* text came from a tool and must not: a passage that holds ``<|im_end|>`` or ``</information>`` stays
plain text.
"""

import itertools
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from slime_search.core.chat_prompt import chat_prompt
from slime_search.errors import DataError

TRUSTED_TEXTS_KEPT = 1_024
"""Encodings of our own text that a codec remembers. The samples of a group share their prompt, all share the tags."""
UNTRUSTED_TEXTS_KEPT = 16_384
"""Encodings of tool text that a codec remembers, some ten megabytes. The samples of a group find the same passages."""
LONGEST_REMEMBERED = 8_192
"""Characters of a text that is remembered; a megabyte passage is not."""


Encode = Callable[[str], list[int]]


_OF_CONTROL_FORM = re.compile(r"<[|｜].*[|｜]>|\[/?[A-Z_]+\]|</?[a-z]+_[a-z_]+>")
"""How families write control tokens that they don't flag, such as Qwen2.5's ``<|fim_prefix|>`` and ``<tool_call>``."""
_OPEN_THOUGHT = re.compile(r"(?:<think>|\[THINK\]|<\|channel>thought)\s*\Z")
LONGEST_OPENING = 8
"""Tokens of a thought's opening mark with the blanks after it, at most."""


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


def control_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """The added tokens that mean something to the model beside their text, with their ids.

    Those that the tokenizer flags special, those that its chat template writes, and those of the form of one. HTML's
    tags, which Gemma's tokenizer adds, and runs of blanks are text. Where there is no template to tell, every added
    token that is not blank counts: DeepSeek V4's and MiniMax's control tokens have no common form.
    """
    added = {token: i for token, i in tokenizer.get_added_vocab().items() if token.strip()}
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return added
    written = template if isinstance(template, str) else " ".join(map(str, template.values()))
    special = {*tokenizer.all_special_tokens, *_flagged(tokenizer)}
    return {
        token: token_id
        for token, token_id in added.items()
        if token in special or token in written or _OF_CONTROL_FORM.fullmatch(token)
    }


def _flagged(tokenizer: Tokenizer) -> set[str]:
    decoder: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return {str(token) for token in decoder.values() if getattr(token, "special", False)}


class TokenCodec:
    """Encodes trusted and untrusted text with one tokenizer.

    ``tags`` are markup that the dialect gives a meaning and the tokenizer may not know as tokens; untrusted text can't
    produce their usual tokenisation either.

    Raises:
        DataError: the tokenizer changes text where it is encoded piece by piece, so nothing can be appended with it.
    """

    def __init__(self, tokenizer: Tokenizer, tags: Iterable[str] = ()) -> None:
        self.tokenizer = tokenizer
        self._control = control_tokens(tokenizer)
        self._control_ids = frozenset(self._control.values())
        plain = {tag for tag in tags if tag not in self._control}
        self._forgery = _occurrences_of(self._control)
        # What is plain text to the tokenizer often begins with a token of its own, "<" or "</".
        self._imitation = _occurrences_of(plain)
        self._controls = _any_of(self._control)
        probe = "".join((" Where? ", *sorted({*self._control, *plain}), "\n\n naïve 東京  42"))
        self._whole = _shortest_way(tokenizer, probe)
        self._encode = _without_boundary(self._whole, tokenizer)
        self._has_boundary = self._encode is not self._whole
        self._trusted = _remembering(TRUSTED_TEXTS_KEPT, self._encode)
        self._prompts = _remembering(TRUSTED_TEXTS_KEPT, self._whole) if self._has_boundary else self._trusted
        self._between = _remembering(UNTRUSTED_TEXTS_KEPT, self._encode_between)
        self._split = lru_cache(TRUSTED_TEXTS_KEPT)(self._split_at_controls)
        self._opening = lru_cache(TRUSTED_TEXTS_KEPT)(self._open_thought)

    def trusted(self, text: str) -> list[int]:
        """Token ids of our own text inside a context; tags and special tokens in it take effect."""
        return self._trusted(text)

    def prompt(self, prompt: Any) -> list[int]:
        """Token ids of a prompt: a rendered string, or chat messages that the tokenizer's template renders.

        They are those of the tokenizer itself, which may put a word boundary before the first word.
        """
        if not isinstance(prompt, str):
            prompt = chat_prompt(self.tokenizer, prompt)
        return self._prompts(prompt)

    def untrusted(self, text: str) -> list[int]:
        """Token ids of text from outside: no control token, and the decoded text unchanged.

        Lone surrogates, which UTF-8 can't carry, become U+FFFD.

        Raises:
            DataError: the tokenizer turns even single characters of the text into control tokens.
        """
        return self._between("", text, "")

    def between(self, before: str, text: str, after: str) -> list[int]:
        """Token ids of untrusted text with our own around it, as the tokenizer gives them for the whole.

        A result that ends in a full stop and the line end after it are one token in many vocabularies, and the model
        was trained on that one. Only where text from outside would forge something are they kept apart.
        ``before`` and ``after`` are pieces as ``split_at_controls`` gives them and hold no control token of their own.

        Raises:
            DataError: as in ``untrusted``.
        """
        return self._between(before, text, after)

    def split_at_controls(self, text: str) -> tuple[str, list[int], str]:
        """Our own text as what stands before the first control token, the ids from there to the last, and the rest.

        Without a control token all of it stands before. For a tokenizer that puts a word boundary before a text, the
        rest says which control token it follows, since that decides whether there is one.
        """
        return self._split(text)

    def _split_at_controls(self, text: str) -> tuple[str, list[int], str]:
        spans = [match.span() for match in self._controls.finditer(text)]
        if not spans:
            return text, [], ""
        (start, _), (last, end) = spans[0], spans[-1]
        return text[:start], self.trusted(text[start:end]), text[last if self._has_boundary else end :]

    @property
    def control_ids(self) -> frozenset[int]:
        """The ids that untrusted text never gets."""
        return self._control_ids

    def opened_thought(self, token_ids: Sequence[int]) -> str:
        """The mark, and blanks after it, with which a context opens the model's thought for it; mostly empty."""
        return self._opening(tuple(token_ids[-LONGEST_OPENING:]))

    def _open_thought(self, token_ids: tuple[int, ...]) -> str:
        found = _OPEN_THOUGHT.search(self.tokenizer.decode(list(token_ids), skip_special_tokens=False))
        return found.group() if found else ""

    def _encode_between(self, before: str, text: str, after: str) -> list[int]:
        text = well_formed(text)
        whole = before + text + after
        start, end = len(before), len(before) + len(text)
        # Cuts inside each forged literal keep the tokenizer from ever seeing it whole.
        cuts = {0, len(whole)}
        for first, last in self._literals(self._forgery, whole):
            if last > start and first < end:
                cuts.add(max(first + 1, start))
        for first, last in self._literals(self._imitation, whole):
            if last > start and first < end:
                cuts |= {max(first + 1, start), max(first + 2, start)}
        pieces = [whole[first:last] for first, last in itertools.pairwise(sorted(cuts))]
        follows = int(self._has_boundary and self._controls.match(before) is not None)
        ids = list(itertools.chain.from_iterable(map(self._encode, pieces)))[follows:]
        if self._control_ids.isdisjoint(ids):
            return ids
        # The tokenizer normalises before it matches (case folding, say), so the literals never stood in the text.
        ids = [i for character in text for i in self._encode(character)]
        if forged := self._control_ids.intersection(ids):
            raise DataError(f"tool text encodes to the control token ids {sorted(forged)} one character at a time")
        around = [self._encode(ours) if ours else [] for ours in (before, after)]
        return [*around[0][follows:], *ids, *around[1]]

    @staticmethod
    def _literals(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
        """Where each literal stands, overlapping ones included; of several that begin at one place the longest."""
        return [match.span(1) for match in pattern.finditer(text)]

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token on its own, for display only (part of a character shows as U+FFFD)."""
        return [self.tokenizer.decode([i], skip_special_tokens=False) for i in token_ids]


_AFTER = "\n"


def _without_boundary(encode: Encode, tokenizer: Tokenizer) -> Encode:
    """``encode`` for text inside a context.

    A SentencePiece tokenizer with a dummy prefix puts a word boundary before whatever it is given: a passage cut in
    two would read "f oo". Such a tokenizer is given the text after a line end, whose own ids are then left out.

    Raises:
        DataError: that does not help, since the line end and the text become one token.
    """
    try:
        joined = tokenizer.decode(encode("a") + encode("b"), skip_special_tokens=False)
    except (LookupError, ValueError):
        return encode
    if joined == "ab" or joined.replace(" ", "") != "ab":
        return encode
    lead = encode(_AFTER)

    def inside(text: str) -> list[int]:
        ids = encode(_AFTER + text)
        if ids[: len(lead)] != lead:
            raise DataError(
                f"tokenizer: it puts a word boundary before each text and joins a line end with {text[:20]!r}, so text "
                "can't be appended to what was sampled. Load it without its dummy prefix (legacy=False)."
            )
        return ids[len(lead) :]

    if tokenizer.decode(inside("a") + inside("b"), skip_special_tokens=False).strip() != "ab":
        raise DataError(
            "tokenizer: it changes text where it is encoded piece by piece, so nothing can be appended to what was "
            "sampled. Load it without its dummy prefix (legacy=False)."
        )
    return inside


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


def _remembering(texts: int, encode: Callable[..., list[int]]) -> Callable[..., list[int]]:
    """``encode`` that keeps the ids of the last ``texts`` texts, packed, and returns a fresh list each time."""
    packed = lru_cache(texts)(lambda *text: array("q", encode(*text)))
    return lambda *text: packed(*text).tolist() if sum(map(len, text)) <= LONGEST_REMEMBERED else encode(*text)


def well_formed(text: str) -> str:
    """``text`` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _occurrences_of(literals: Iterable[str]) -> re.Pattern[str]:
    """Matches (emptily) where a literal of two or more characters begins, overlapping ones included; group 1 is it."""
    long_enough = sorted({x for x in literals if len(x) > 1}, key=len, reverse=True)
    if not long_enough:
        return re.compile(r"(?!)()")
    first = "".join(sorted({re.escape(x[0]) for x in long_enough}))
    return re.compile(f"(?=[{first}])(?=({'|'.join(map(re.escape, long_enough))}))")


def _any_of(literals: Iterable[str]) -> re.Pattern[str]:
    """Matches each of them, the longest first."""
    return re.compile("|".join(map(re.escape, sorted(literals, key=len, reverse=True))) or r"(?!)")
