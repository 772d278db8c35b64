"""How servers tell the log-probabilities of tokens that they are given, on the wire."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from slime_search.errors import ProtocolError, TransientFault


class Span(NamedTuple):
    """Tokens to be scored: those from position ``start`` on, each given all before it. ``start`` is at least 1."""

    token_ids: Sequence[int]
    start: int

    @property
    def scored(self) -> Sequence[int]:
        return self.token_ids[self.start :]


class NoPromptLogProbs(ProtocolError):
    """The server answers, without log-probabilities of the prompt."""


class Scores(NamedTuple):
    """One log-probability a scored token, and each one's text where the server tells it."""

    log_probs: list[float]
    texts: list[str | None]


class PromptLogProbs(Protocol):
    """One way to ask."""

    name: str
    path: str

    def payload(self, spans: Sequence[Span], model: str | None, *, with_texts: bool = False) -> dict[str, Any]:
        """The request's body. ``with_texts`` asks for the tokens' texts where they cost extra."""
        ...

    def read(self, body: Any, spans: Sequence[Span]) -> list[Scores]:
        """The scores of each span.

        Raises:
            TransientFault: it is not an answer to this request.
            NoPromptLogProbs: it is one, without log-probabilities of the prompt.
            ProtocolError: it speaks of other tokens, or a log-probability is not a finite number.
        """
        ...


class SGLangGenerate:
    """SGLang's ``/generate``, which scores from ``logprob_start_len`` on and may have cached what is before."""

    name = "sglang"
    path = "/generate"

    def payload(self, spans: Sequence[Span], model: str | None, *, with_texts: bool = False) -> dict[str, Any]:
        # The first row has no log-probability: it is the token that the first scored one is predicted from.
        ids, starts = [list(span.token_ids) for span in spans], [span.start - 1 for span in spans]
        return {
            "input_ids": ids if len(spans) > 1 else ids[0],
            "logprob_start_len": starts if len(spans) > 1 else starts[0],
            "return_logprob": True,
            "return_text_in_logprobs": with_texts,
            "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
        }

    def read(self, body: Any, spans: Sequence[Span]) -> list[Scores]:
        answers = body if isinstance(body, list) else [body]
        if len(answers) != len(spans) or not all(
            isinstance(a, dict) and isinstance(a.get("meta_info"), dict) for a in answers
        ):
            raise TransientFault(f"not an answer of SGLang's /generate to {len(spans)} prompts: {str(body)[:300]}")
        return [self._scores(answer["meta_info"], span) for answer, span in zip(answers, spans, strict=True)]

    def _scores(self, meta: Any, span: Span) -> Scores:
        reason = meta.get("finish_reason")
        if isinstance(reason, dict) and reason.get("type") == "abort":
            raise TransientFault(f"the teacher aborted the request: {reason.get('message')}")
        rows = meta.get("input_token_logprobs")
        if not rows:
            raise NoPromptLogProbs("the answer has no meta_info.input_token_logprobs")
        if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) >= 2 for row in rows):
            raise TransientFault(f"not an answer of SGLang's /generate: input_token_logprobs = {str(rows)[:300]}")
        rows = rows[-len(span.scored) :]
        # SGLang shows the last ids of a vocabulary as 0, for the sake of images.
        if len(rows) != len(span.scored) or any(row[1] not in (i, 0) for row, i in zip(rows, span.scored, strict=True)):
            raise ProtocolError("input_token_logprobs speaks of other tokens than were sent")
        return Scores([_finite(row[0]) for row in rows], [row[2] if len(row) > 2 else None for row in rows])


class VllmPrompt:
    """vLLM's ``prompt_logprobs``, an object by token id for each token."""

    name = "vllm"
    path = "/v1/completions"

    def payload(self, spans: Sequence[Span], model: str | None, *, with_texts: bool = False) -> dict[str, Any]:
        return {**_completion(spans, model), "prompt_logprobs": 0}

    def read(self, body: Any, spans: Sequence[Span]) -> list[Scores]:
        return [self._scores(choice, span) for choice, span in zip(_choices(body, spans), spans, strict=True)]

    def _scores(self, choice: dict[str, Any], span: Span) -> Scores:
        rows = choice.get("prompt_logprobs")
        if not isinstance(rows, list) or not rows:
            raise NoPromptLogProbs("the answer has no prompt_logprobs")
        if len(rows) != len(span.token_ids):
            raise ProtocolError(f"prompt_logprobs has {len(rows)} entries for {len(span.token_ids)} tokens")
        entries = [_entry(row, i) for row, i in zip(rows[span.start :], span.scored, strict=True)]
        return Scores([_finite(e.get("logprob")) for e in entries], [e.get("decoded_token") for e in entries])


class CompletionEcho:
    """OpenAI's completions with ``echo``: the prompt's log-probabilities come before those of the answer."""

    name = "echo"
    path = "/v1/completions"

    def payload(self, spans: Sequence[Span], model: str | None, *, with_texts: bool = False) -> dict[str, Any]:
        return {**_completion(spans, model), "echo": True, "logprobs": 1}

    def read(self, body: Any, spans: Sequence[Span]) -> list[Scores]:
        return [self._scores(choice, span) for choice, span in zip(_choices(body, spans), spans, strict=True)]

    def _scores(self, choice: dict[str, Any], span: Span) -> Scores:
        log_probs, count = choice.get("logprobs"), len(span.token_ids)
        log_probs = log_probs if isinstance(log_probs, dict) else {}
        values = log_probs.get("token_logprobs")
        if not isinstance(values, list) or len(values) < 2:
            # The one token that had to be sampled has its log-probability, but the prompt was not echoed.
            raise NoPromptLogProbs("the answer has no logprobs.token_logprobs of the prompt")
        if len(values) not in (count, count + 1):
            raise ProtocolError(f"logprobs.token_logprobs has {len(values)} entries for {count} tokens")
        texts = log_probs.get("tokens") or [None] * len(values)
        return Scores([_finite(value) for value in values[span.start : count]], texts[span.start : count])


APIS: tuple[PromptLogProbs, ...] = (SGLangGenerate(), VllmPrompt(), CompletionEcho())


def _completion(spans: Sequence[Span], model: str | None) -> dict[str, Any]:
    """One token is sampled and thrown away, since some servers refuse to sample none."""
    return {"model": model, "prompt": [list(span.token_ids) for span in spans], "max_tokens": 1, "temperature": 0.0}


def _choices(body: Any, spans: Sequence[Span]) -> list[dict[str, Any]]:
    match body:
        case {"choices": [*choices]} if len(choices) == len(spans) and all(isinstance(c, dict) for c in choices):
            return sorted(choices, key=lambda choice: choice.get("index", 0))
    raise TransientFault(f"not an answer of /v1/completions to {len(spans)} prompts: {str(body)[:300]}")


def _entry(row: Any, token_id: int) -> dict[str, Any]:
    entry = row.get(str(token_id)) if isinstance(row, dict) else None
    if not isinstance(entry, dict):
        raise ProtocolError(f"prompt_logprobs says nothing of token {token_id} where it was sent: {str(row)[:200]}")
    return entry


def _finite(value: Any) -> float:
    if type(value) not in (float, int) or not math.isfinite(value):
        raise ProtocolError(f"a token of the prompt has no finite log-probability: {value!r}")
    return float(value)
