"""SGLang's native ``/generate``, token ids in and token ids out."""

from collections.abc import Mapping, Sequence
from typing import Any

from slime_search.engines.base import Completion, Finish
from slime_search.errors import ProtocolError, TransientFault
from slime_search.service import ServiceClient


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
                raise TransientFault(f"not an answer of SGLang's /generate: {str(body)[:300]}")
        ids, log_probs = self._sampled(body.get("output_ids"), meta.get("output_token_logprobs"), finish)
        return Completion(ids, log_probs, text, finish, meta)

    def _sampled(
        self, output_ids: list[int] | None, logprob_rows: list[list[Any]] | None, finish: Finish
    ) -> tuple[list[int], list[float] | None]:
        if not self._return_logprob:
            if output_ids is None and finish is not Finish.ABORT:
                raise ProtocolError(
                    f"{self._url}: the answer has no output_ids, so the sampled tokens are unknown. "
                    "Use SGLang >= 0.4.7, or set return_logprob to True."
                )
            return list(output_ids or ()), None
        if logprob_rows is None and finish is not Finish.ABORT:
            raise ProtocolError(
                f"{self._url}: the answer has no meta_info.output_token_logprobs although return_logprob was sent. "
                "Point at SGLang's own /generate, or set return_logprob to False and train without TIS."
            )
        rows = logprob_rows or []
        ids, log_probs = [row[1] for row in rows], [row[0] for row in rows]
        if output_ids is not None and rows and list(output_ids) != ids:
            raise ProtocolError(f"{self._url}: output_ids and output_token_logprobs name different tokens")
        if any(not isinstance(value, float | int) for value in log_probs):
            raise ProtocolError(f"{self._url}: output_token_logprobs holds a token without a log-probability")
        return ids, log_probs
