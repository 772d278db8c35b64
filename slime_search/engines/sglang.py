"""SGLang's native ``/generate``, token ids in and token ids out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from slime_search.core.engine import Completion, ContextLimits, Finish
from slime_search.engines import nucleus
from slime_search.engines.log_prob_scale import TOP, LogProbScale, changes_distribution
from slime_search.engines.server_info import ServerInfo, ServerKind, ask_server
from slime_search.errors import ProtocolError, TransientFault
from slime_search.transport.client import ServiceClient
from slime_search.transport.per_loop import SingleFlight

PROBE_IDS = [0] * 23
"""A prompt that no chat template renders, of a token that every vocabulary has."""
ROUTED_EXPERTS = "return_routed_experts"


class SGLangEngine:
    """An SGLang server or router, or anything that answers in its shape.

    What stands at the address is asked once, before the first request: its limits, and whether it is a router, whose
    own repeated requests count as ours.

    Args:
        client: the connection to it.
        url: base URL, without ``/generate``.
        return_logprob: ask for the log-probability of each sampled token.
        sticky: send the session id as ``X-SMG-Routing-Key``, for a router that hashes consistently.
        extra: further fields of each request body, such as ``return_routed_experts``.
        token: a bearer token, for asking what stands there; requests carry the client's.
    """

    def __init__(
        self,
        client: ServiceClient,
        url: str,
        *,
        return_logprob: bool = True,
        sticky: bool = False,
        extra: Mapping[str, Any] | None = None,
        token: str | None = None,
    ) -> None:
        self._client = client
        self._direct, self._routed = client, client.behind_router()
        self._url = f"{url.rstrip('/')}/generate"
        self._return_logprob = return_logprob
        self._sticky = sticky
        self._extra = dict(extra or {})
        self.server: SingleFlight[ServerInfo] = SingleFlight(
            lambda: ask_server(url, token), keeps=lambda info: info.kind is not ServerKind.UNKNOWN
        )
        self._scale = LogProbScale(self.server, self._likeliest)

    async def context_limits(self) -> ContextLimits | None:
        return (await self.server.get()).limits

    async def client(self) -> ServiceClient:
        """The connection, with as many attempts as a router before the engine leaves."""
        info = self.server.known or await self.server.get()
        return self._routed if info.is_router else self._direct

    async def generate(
        self, input_ids: Sequence[int], sampling_params: Mapping[str, Any], *, session_id: str | None = None
    ) -> Completion:
        """Continues ``input_ids``.

        Raises:
            ServiceError: the engine failed after its retries.
            ProtocolError: its answers can't be trained on: they lack ids, log-probabilities, experts or a nucleus
                that were asked for, or the log-probabilities are not of the distribution that ``sampling_params`` ask
                for.
        """
        if self._return_logprob and (changed := changes_distribution(sampling_params)):
            await self._scale.check(changed)
        headers = {"X-SMG-Routing-Key": session_id} if self._sticky and session_id else None
        payload = self._payload(input_ids, sampling_params)
        with_nucleus = nucleus.is_asked_for(sampling_params)
        client = await self.client()
        return await client.post(
            self._url, payload, lambda body: self._parse(body, len(input_ids), with_nucleus=with_nucleus), headers
        )

    async def probe(self) -> Completion:
        """One token after a prompt of ids, to see whether the server takes them.

        Raises:
            ServiceError: it does not answer, or refuses the request.
            ProtocolError: its answer can't be trained on.
        """

        def parse(body: Any) -> Completion:
            completion = self._parse(body, len(PROBE_IDS))
            if completion.finish is Finish.ABORT:
                raise TransientFault("the engine aborted the request that asks what it takes")
            return completion

        payload = self._payload(PROBE_IDS, {"max_new_tokens": 1, "temperature": 1.0})
        return await (await self.client()).post(self._url, payload, parse)

    def _payload(self, input_ids: Sequence[int], sampling_params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "input_ids": input_ids,
            "sampling_params": sampling_params,
            "return_logprob": self._return_logprob,
            **self._extra,
        }

    async def _likeliest(self, temperature: float) -> list[float]:
        payload = self._payload(PROBE_IDS, {"max_new_tokens": 1, "temperature": temperature})
        return await (await self.client()).post(self._url, payload | {"top_logprobs_num": TOP}, _top)

    def _parse(self, body: Any, prompt_tokens: int, *, with_nucleus: bool = False) -> Completion:
        match body:
            case {"text": str(), "meta_info": {"finish_reason": {"type": "stop" | "length" | "abort" as kind}} as meta}:
                finish = Finish(kind)
            case _:
                raise _garbage(body)
        if not self._return_logprob:
            ids, log_probs = self._ids(body, finish), None
        else:
            ids, log_probs = self._scored_ids(body, meta, finish)
        if with_nucleus and ids and not nucleus.is_told(meta):
            if finish is not Finish.ABORT:
                raise nucleus.refusal(self._url)
            ids, log_probs = [], [] if self._return_logprob else None
        if finish is not Finish.ABORT:
            if meta.get("prompt_tokens") not in (None, prompt_tokens):
                raise ProtocolError(
                    f"{self._url}: was sent {prompt_tokens} input_ids and says that it conditioned on "
                    f"{meta['prompt_tokens']}"
                )
            if self._extra.get(ROUTED_EXPERTS) and meta.get("routed_experts") is None:
                raise ProtocolError(
                    f"{self._url}: the answer has no meta_info.routed_experts although {ROUTED_EXPERTS} was sent. "
                    "Start SGLang with --enable-return-routed-experts, and use a router that passes the field on "
                    "(sglang-router 0.3.2 drops it), or leave out --use-rollout-routing-replay."
                )
        # Kept for as long as the trajectory lives, the rows would be a small object a token beside the same two lists.
        meta = {key: value for key, value in meta.items() if key != "output_token_logprobs"}
        return Completion(ids, log_probs, finish, meta)

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
        if body.get("output_ids") not in (None, ids):
            raise ProtocolError(f"{self._url}: output_ids and output_token_logprobs name different tokens")
        if not set(map(type, log_probs)) <= {float, int} or not all(map(math.isfinite, log_probs)):
            raise ProtocolError(
                f"{self._url}: output_token_logprobs holds a token without a log-probability that is finite"
            )
        return ids, log_probs


def _top(body: Any) -> list[float]:
    """The log-probabilities of the likeliest first tokens, empty where the server does not show them."""
    match body:
        case {"meta_info": {"output_top_logprobs": [[*rows], *_]}}:
            return [row[0] for row in rows if isinstance(row, list) and row and isinstance(row[0], float | int)]
        case {"meta_info": dict()}:
            return []
    raise _garbage(body)


def _garbage(body: Any) -> TransientFault:
    return TransientFault(f"not an answer of SGLang's /generate: {str(body)[:300]}")
