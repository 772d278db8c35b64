"""A server in the shape of OpenAI's ``/v1/completions`` whose completions a Python function writes.

Like the route everywhere it cuts the stop string off. ``tells_stop`` names the field in which it says which one that
was, as vLLM and SGLang do; OpenAI's own does not say.
"""

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiohttp import web

from tests.support.loopback import Fault, LoopbackServer, json_response
from tests.support.scripted_engine import Policy

_KNOWN = {"model", "prompt", "max_tokens", "temperature", "top_p", "stop", "seed"}


class ScriptedCompletions(LoopbackServer):
    def __init__(self, tokenizer: Any, policy: Policy, *, tells_stop: str | None = None) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._policy = policy
        self._tells_stop = tells_stop
        self.script: Callable[[dict[str, Any]], Fault | None] = lambda body: None
        self.bodies: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        """The bearer tokens that were sent."""

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/v1/completions", self._complete)]

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        if unknown := set(body) - _KNOWN:
            return web.Response(status=400, text=f"unknown fields: {unknown}")
        self.bodies.append(body)
        self.tokens.append(request.headers.get("Authorization", ""))
        answer = {"choices": [self._choice(body)]}
        fault = self.script(body)
        return json_response(answer) if fault is None else await fault(request, answer)

    def _choice(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self._policy(self._tokenizer.decode(body["prompt"], skip_special_tokens=False))
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        if len(ids) > body["max_tokens"]:
            cut = self._tokenizer.decode(ids[: body["max_tokens"]], skip_special_tokens=False)
            return {"text": cut, "finish_reason": "length"}
        stops = {text.find(stop): stop for stop in body.get("stop", ()) if stop in text}
        if not stops:
            return {"text": text, "finish_reason": "stop"}
        place = min(stops)
        told = {self._tells_stop: stops[place]} if self._tells_stop else {}
        return {"text": text[:place], "finish_reason": "stop", **told}
