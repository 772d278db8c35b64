"""SGLang's native ``/generate``, token ids in and token ids out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from slime_search.core.engine import Completion, Finish
from slime_search.errors import ProtocolError, TransientFault
from slime_search.transport.client import ServiceClient


class SGLangEngine:
    """An SGLang server or router, or anything that answers in its shape.

    Args:
        client: the connection to it.
        url: base URL, without ``/generate``.
        return_logprob: ask for the log-probability of each sampled token.
        sticky: send the session id as ``X-SMG-Routing-Key``, for a router that hashes consistently.
        extra: further fields of each request body, such as ``return_routed_experts``.
    """

    def __init__(
        self,
        client: ServiceClient,
        url: str,
        *,
        return_logprob: bool = True,
        sticky: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._client = client
        self._url = f"{url.rstrip('/')}/generate"
        self._return_logprob = return_logprob
        self._sticky = sticky
        self._extra = dict(extra or {})

    async def generate(
        self, input_ids: Sequence[int], sampling_params: Mapping[str, Any], *, session_id: str | None = None
    ) -> Completion:
        payload = {
            "input_ids": list(input_ids),
            "sampling_params": dict(sampling_params),
            "return_logprob": self._return_logprob,
            **self._extra,
        }
        headers = {"X-SMG-Routing-Key": session_id} if self._sticky and session_id else None
        return await self._client.post(self._url, payload, self._parse, headers)

    def _parse(self, body: Any) -> Completion:
        match body:
            case {
                "text": str(text),
                "meta_info": {"finish_reason": {"type": "stop" | "length" | "abort" as kind}} as meta,
            }:
                finish = Finish(kind)
            case _:
                raise _garbage(body)
        if not self._return_logprob:
            ids, log_probs = self._ids(body, finish), None
        else:
            ids, log_probs = self._scored_ids(body, meta, finish)
        # Kept for as long as the trajectory lives, the rows would be a small object a token beside the same two lists.
        meta = {key: value for key, value in meta.items() if key != "output_token_logprobs"}
        # Text whose tokens were not returned is not part of the context, so it must not be read as part of the turn.
        return Completion(ids, log_probs, text if ids else "", finish, meta)

    def _ids(self, body: Any, finish: Finish) -> list[int]:
        match body.get("output_ids"):
            case list(ids) if set(map(type, ids)) <= {int}:
                return ids
            case None if finish is Finish.ABORT:
                return []
            case None:
                raise ProtocolError(
                    f"{self._url}: the answer has no output_ids, so the sampled tokens are unknown. "
                    "Use SGLang >= 0.4.7, or set return_logprob to True."
                )
        raise _garbage(body)

    def _scored_ids(self, body: Any, meta: Mapping[str, Any], finish: Finish) -> tuple[list[int], list[float]]:
        rows = meta.get("output_token_logprobs")
        if rows is None and finish is Finish.ABORT:
            return [], []
        if rows is None:
            raise ProtocolError(
                f"{self._url}: the answer has no meta_info.output_token_logprobs although return_logprob was sent. "
                "Point at SGLang's own /generate, or set return_logprob to False and train without TIS."
            )
        if not isinstance(rows, list) or not set(map(type, rows)) <= {list} or min(map(len, rows), default=2) < 2:
            raise _garbage(body)
        ids, log_probs = [row[1] for row in rows], [row[0] for row in rows]
        if not set(map(type, ids)) <= {int}:
            raise _garbage(body)
        if body.get("output_ids") is not None and self._ids(body, finish) != ids:
            raise ProtocolError(f"{self._url}: output_ids and output_token_logprobs name different tokens")
        if not set(map(type, log_probs)) <= {float, int} or not all(map(math.isfinite, log_probs)):
            raise ProtocolError(
                f"{self._url}: output_token_logprobs holds a token without a log-probability that is finite"
            )
        return ids, log_probs


def _garbage(body: Any) -> TransientFault:
    return TransientFault(f"not an answer of SGLang's /generate: {str(body)[:300]}")
