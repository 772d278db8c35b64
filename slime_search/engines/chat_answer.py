"""What the answer of ``/v1/chat/completions`` says about tokens, in the dialects of the servers that say it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slime_search.core.engine import Finish
from slime_search.errors import ProtocolError, TransientFault

_FINISH = {
    "stop": Finish.STOP,
    "tool_calls": Finish.STOP,
    "function_call": Finish.STOP,
    "length": Finish.LENGTH,
    "abort": Finish.ABORT,
}
_TOKEN_AS_ID = re.compile(r"token_id:(\d+)")


class NoTokenIds(ProtocolError):
    """The server answers in text only."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """One choice.

    ``token_ids`` and ``log_probs`` are what was sampled, end token included; ``prompt_ids`` is what it was sampled
    after, None when the server does not tell. ``source`` names the field that the ids came from.
    """

    token_ids: list[int]
    log_probs: list[float] | None
    prompt_ids: list[int] | None
    prompt_tokens: int | None
    finish: Finish
    source: str
    meta_info: Mapping[str, Any]


def read_chat_answer(body: Any, *, with_log_probs: bool) -> ChatAnswer:
    """The answer's one choice.

    Ids are taken from ``response_token_ids`` (SGLang), ``token_ids`` (vLLM), ``meta_info.output_token_logprobs``,
    ``logprobs.content[].token_id`` (patched SGLang) or ``logprobs.content[].token`` of the form ``token_id:7`` (vLLM).
    All that are there must agree.

    Raises:
        TransientFault: it is not a chat completion at all.
        NoTokenIds: it is one, without token ids.
        ProtocolError: its fields contradict each other, or log-probabilities are missing.
    """
    match body:
        case {"choices": [{"message": {"role": str()}, "finish_reason": str(reason)} as choice, *_]} if (
            reason in _FINISH
        ):
            finish = _FINISH[reason]
        case _:
            raise TransientFault(f"not an answer of /v1/chat/completions: {str(body)[:300]}")
    meta, usage = _table(choice, "meta_info"), _table(body, "usage")
    entries, rows = _entries(choice), _rows(meta)
    found = _sampled_ids(choice, entries, rows)
    if not found and finish is not Finish.ABORT:
        raise NoTokenIds("the answer holds no token ids")
    source, token_ids = next(iter(found.items()), ("none", []))
    for other, ids in found.items():
        if ids != token_ids:
            raise ProtocolError(f"{source} holds {len(token_ids)} token ids and {other} others ({len(ids)} of them)")
    return ChatAnswer(
        token_ids=token_ids,
        log_probs=_log_probs(entries, rows, len(token_ids)) if with_log_probs else None,
        prompt_ids=_ids(choice.get("prompt_token_ids")) or _ids(body.get("prompt_token_ids")),
        prompt_tokens=usage.get("prompt_tokens"),
        finish=finish,
        source=source,
        meta_info=_meta(meta, choice, token_ids, usage),
    )


def _table(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under ``key``, empty if it is absent or null."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TransientFault(f"not an answer of /v1/chat/completions: {key} = {str(value)[:300]}")
    return value


def _entries(choice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """``logprobs.content``, one object a token."""
    content = _table(choice, "logprobs").get("content")
    if content is None:
        return []
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise TransientFault(f"not an answer of /v1/chat/completions: logprobs.content = {str(content)[:300]}")
    return content


def _rows(meta: Mapping[str, Any]) -> list[Sequence[Any]] | None:
    """``meta_info.output_token_logprobs``: a log-probability and an id a token, and more."""
    rows = meta.get("output_token_logprobs")
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) >= 2 for row in rows):
        raise TransientFault(f"not an answer of /v1/chat/completions: output_token_logprobs = {str(rows)[:300]}")
    return rows


def _sampled_ids(
    choice: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[Any]] | None
) -> dict[str, list[int]]:
    """The ids by the field that they stand in, of those fields that hold them."""
    spelled = [_TOKEN_AS_ID.fullmatch(str(entry.get("token"))) for entry in entries]
    candidates = {
        "response_token_ids": _ids(choice.get("response_token_ids")),
        "token_ids": _ids(choice.get("token_ids")),
        "meta_info.output_token_logprobs": None if rows is None else _ids([row[1] for row in rows]),
        "logprobs.content[].token_id": _ids([entry.get("token_id") for entry in entries]) if entries else None,
        "logprobs.content[].token": [int(m[1]) for m in spelled if m] if entries and all(spelled) else None,
    }
    return {name: ids for name, ids in candidates.items() if ids is not None}


def _ids(value: Any) -> list[int] | None:
    return value if isinstance(value, list) and set(map(type, value)) <= {int} else None


def _log_probs(entries: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[Any]] | None, count: int) -> list[float]:
    values = [entry.get("logprob") for entry in entries] if rows is None else [row[0] for row in rows]
    if len(values) != count:
        raise ProtocolError(f"the answer holds {count} token ids and {len(values)} log-probabilities")
    return [_finite(value) for value in values]


def _finite(value: Any) -> float:
    if type(value) not in (float, int) or not math.isfinite(value):
        raise ProtocolError(f"the answer holds a token without a log-probability that is finite: {value!r}")
    return float(value)


def _meta(
    meta: Mapping[str, Any], choice: Mapping[str, Any], ids: list[int], usage: Mapping[str, Any]
) -> dict[str, Any]:
    """What slime reads of SGLang's meta info, also for a server that has none.

    SGLang calls a stop "tool_calls" there where it parsed any, a reason that slime does not know.
    """
    kept = {key: value for key, value in meta.items() if key != "output_token_logprobs"}
    reason = {"type": _FINISH[choice["finish_reason"]].value}
    counts = {"completion_tokens": len(ids), "prompt_tokens": usage.get("prompt_tokens", 0)}
    return {**counts, **kept, "finish_reason": reason}
