"""One request on its way through the engine, and what it ends as."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from transformers import PreTrainedTokenizerBase

from slime_search.local.engine.params import BadRequest, SamplingParams
from slime_search.local.engine.sampling import Choice

# As SGLang, decode a completion with so many tokens of its prompt: some tokenizers drop the blank of a first word.
_CONTEXT_TOKENS = 5


@dataclass(frozen=True, slots=True)
class Stopped:
    """EOS, a stop token or a stop string came."""

    matched: int | str


@dataclass(frozen=True, slots=True)
class LengthReached:
    """``length`` tokens were asked for, or fit into the context."""

    length: int


@dataclass(frozen=True, slots=True)
class Aborted:
    message: str
    ran: bool
    """Whether the request had left the queue."""


Finish = Stopped | LengthReached | Aborted


class StopStrings:
    """Finds the stop string that a completion's newest token completes.

    To decode after each token would cost more than the model. So a token is judged once, by itself: only one whose
    text could hold the end of a stop string has the completion's tail decoded.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._strings = strings
        # A token brings a byte or more; one more, as some tokenizers drop the first one's blank.
        self._tail = max((len(string.encode()) for string in strings), default=0) + 1
        self._may_end: dict[int, bool] = {}

    def match(self, output_ids: Sequence[int]) -> str | None:
        """The first of the strings that is in the text of the last tokens, special tokens included."""
        last = output_ids[-1]
        if (may_end := self._may_end.get(last)) is None:
            may_end = self._may_end[last] = self._could_end(last)
        if not may_end:
            return None
        tail = self._tokenizer.decode(output_ids[-self._tail :])
        return next((string for string in self._strings if string in tail), None)

    def _could_end(self, token: int) -> bool:
        piece = self._tokenizer.decode([token])
        if "\N{REPLACEMENT CHARACTER}" in piece:  # part of a character: it depends on its neighbours
            return True
        return any(_holds_end(string, text) for string in self._strings for text in (piece, f" {piece}"))


def _holds_end(string: str, piece: str) -> bool:
    return string in piece or any(string.endswith(piece[:size]) for size in range(1, len(piece) + 1))


class StopRules:
    """All that ends completions by itself: the model's EOS tokens and what each request asks for."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, eos_ids: frozenset[int]) -> None:
        self.eos_ids = eos_ids
        self._strings = lru_cache(maxsize=256)(lambda strings: StopStrings(tokenizer, strings))

    def finish(self, output_ids: Sequence[int], params: SamplingParams, limit: int) -> Finish | None:
        """Why the completion ends with its newest token, in SGLang's order of precedence; None if it goes on."""
        if params.stop and (matched := self._strings(params.stop).match(output_ids)):
            return Stopped(matched)
        last = output_ids[-1]
        if not params.ignore_eos and (last in self.eos_ids or last in params.stop_token_ids):
            return Stopped(last)
        return LengthReached(limit) if len(output_ids) >= limit else None


def visible_text(
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    finish: Finish,
    params: SamplingParams,
) -> str:
    """The completion's text as SGLang gives it: without the matched stop, unless ``no_stop_trim``; never with what
    follows a stop string inside its last token."""

    def decode(ids: list[int]) -> str:
        return str(
            tokenizer.decode(
                ids,
                skip_special_tokens=params.skip_special_tokens,
                spaces_between_special_tokens=params.spaces_between_special_tokens,
            )
        )

    matched = finish.matched if isinstance(finish, Stopped) else None
    shown = list(output_ids)
    if isinstance(matched, int) and not params.no_stop_trim:
        shown.pop()
    context = list(prompt_ids[-_CONTEXT_TOKENS:])
    text = decode(context + shown)[len(decode(context)) :]
    if isinstance(matched, str) and (start := text.find(matched)) >= 0:
        return text[: start + len(matched)] if params.no_stop_trim else text[:start]
    return text


@dataclass(frozen=True, slots=True)
class WeightSpan:
    """The version of the weights that sampled the tokens ``start`` to ``end``, which is not included."""

    version: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled for one request, with one log-probability a token."""

    output_ids: list[int]
    log_probs: list[float]
    finish: Finish
    weights: list[WeightSpan]
    """In order; more than one if the weights were swapped on the way."""
    input_log_probs: list[float] | None = None
    """Of the prompt's tokens after the one at ``logprob_start_len``, if they were asked for."""


@dataclass(eq=False, slots=True)
class RunningSequence:
    """A request that is waiting or running."""

    rid: str
    prompt_ids: Sequence[int]
    params: SamplingParams
    limit: int
    """The tokens it may get."""
    forbidden: Sequence[int]
    """Tokens it may not get before its ``min_new_tokens``-th."""
    random: Random
    score_from: int | None = None
    """The prompt's tokens after this one get log-probabilities."""
    input_log_probs: list[float] | None = None
    done: Future[Completion] = field(default_factory=Future)
    output_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    weights: list[WeightSpan] = field(default_factory=list)
    """Of the tokens sampled before the last swap."""

    def choice(self) -> Choice:
        early = len(self.output_ids) < self.params.min_new_tokens
        return Choice(self.params, self.random, self.forbidden if early else ())

    def close_span(self, version: str) -> None:
        """Notes that the tokens since the last span were sampled under ``version``."""
        start = self.weights[-1].end if self.weights else 0
        if len(self.output_ids) > start or not self.weights:
            self.weights.append(WeightSpan(version, start, len(self.output_ids)))

    def finish(self, finish: Finish, version: str) -> None:
        self.close_span(version)
        self.done.set_result(Completion(self.output_ids, self.log_probs, finish, self.weights, self.input_log_probs))


def token_limit(prompt_ids: Sequence[int], params: SamplingParams, context_length: int, vocab_size: int) -> int:
    """How many tokens a request may get.

    Raises:
        BadRequest: it does not fit the model.
    """
    size = len(prompt_ids)
    if not size:
        raise BadRequest("input_ids: the prompt is empty")
    for name, ids in (("input_ids", prompt_ids), ("stop_token_ids", params.stop_token_ids)):
        if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
            raise BadRequest(f"{name}: there is an id outside of [0, {vocab_size - 1}], the model's vocabulary")
    if size >= context_length:
        raise BadRequest(
            f"The input ({size} tokens) is longer than the model's context length ({context_length} tokens)."
        )
    if params.max_new_tokens is None:
        return context_length - size
    if size + params.max_new_tokens > context_length:
        raise BadRequest(
            f"Requested token count exceeds the model's maximum context length of {context_length} tokens: "
            f"{size} tokens of input and max_new_tokens {params.max_new_tokens}."
        )
    return params.max_new_tokens
