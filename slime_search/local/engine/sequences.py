"""One request on its way through the engine, and what it ends as."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from random import Random

from slime_search.local.engine.params import BadRequest, SamplingParams
from slime_search.local.engine.sampling import Choice
from slime_search.local.engine.stops import Finish


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
