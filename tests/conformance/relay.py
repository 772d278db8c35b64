"""A relay before the server under test that keeps what it was asked and what it answered."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from slime_search.hooks.contract import LocalSample
from tests.support.loopback import LoopbackServer

Turn = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]
"""The tokens of the context, the tokens sampled after it, and their log-probabilities."""


class Relay(LoopbackServer):
    """Passes every request on to ``url``; ``turns`` are the answered requests of ``/generate``, in no order.

    A request whose whole prompt is token 0 only asks what the server takes, and is left out.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.turns: list[Turn] = []

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self._pass_on)]

    async def _pass_on(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {"Content-Type": request.content_type} if body else {}
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(request.method, self._url + request.path_qs, data=body, headers=headers) as response,
        ):
            answered = await response.read()
        if request.path == "/generate" and response.status == 200:
            self._keep(orjson.loads(body), orjson.loads(answered))
        return web.Response(status=response.status, body=answered, content_type=response.content_type)

    def _keep(self, asked: dict[str, Any], answered: dict[str, Any]) -> None:
        if set(asked["input_ids"]) == {0}:
            return
        rows = answered["meta_info"]["output_token_logprobs"]
        self.turns.append((tuple(asked["input_ids"]), tuple(answered["output_ids"]), tuple(row[0] for row in rows)))


def trained_turns(samples: Sequence[LocalSample]) -> list[Turn]:
    """Each run of tokens of mask 1, with everything before it."""
    turns = list[Turn]()
    for sample in samples:
        assert sample.loss_mask is not None and sample.rollout_log_probs is not None
        first = len(sample.tokens) - sample.response_length
        at = 0
        while at < sample.response_length:
            end = at
            while end < sample.response_length and sample.loss_mask[end] == sample.loss_mask[at]:
                end += 1
            if sample.loss_mask[at]:
                context, said = sample.tokens[: first + at], sample.tokens[first + at : first + end]
                turns.append((tuple(context), tuple(said), tuple(sample.rollout_log_probs[at:end])))
            at = end
    return turns


def shares(asked: Sequence[Turn], samples: Sequence[LocalSample]) -> tuple[float, float]:
    """Token-exact: how many turns are trained as they were sampled, with the same tokens and log-probabilities. And
    prefix-exact: how many have in the sample, bit by bit, the context of the request. Of all that were asked, or of all
    in the samples where those are more."""
    trained = trained_turns(samples)
    whole = Counter(asked) & Counter(trained)
    contexts = Counter(turn[0] for turn in asked) & Counter(turn[0] for turn in trained)
    most = max(len(asked), len(trained))
    return whole.total() / most, contexts.total() / most
