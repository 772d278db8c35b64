"""A router before a scripted engine that drops and refuses what sglang-router 0.3.2 does, over real HTTP."""

from collections.abc import Iterable
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from tests.support.loopback import LoopbackServer, json_response
from tests.support.scripted_engine import ScriptedEngine

ATTEMPTS = 5
"""How often it asks an engine that answers one of these."""
_REPEATED = frozenset({408, 429, 500, 502, 503, 504})

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "stop", "stop_token_ids", "ignore_eos", "no_stop_trim")
_CHAT = frozenset(
    {"model", "messages", "tools", "tool_choice", "chat_template_kwargs", "logprobs", "top_logprobs", "seed", "stream"}
    | {"skip_special_tokens", "frequency_penalty", "presence_penalty", "repetition_penalty", *_SAMPLING}
)
_GENERATE = frozenset({"text", "input_ids", "sampling_params", "return_logprob", "top_logprobs_num", "stream"})
"""What of a body it passes on."""


class ScriptedRouter(LoopbackServer):
    """``asked`` counts the requests to the engine; ``passes_on`` are further fields of ``/generate`` that it knows."""

    def __init__(self, engine: ScriptedEngine, *, passes_on: Iterable[str] = ()) -> None:
        super().__init__()
        self._engine = engine
        self._passes_on = frozenset(passes_on)
        self.asked = 0

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/workers", self._workers),
            web.get("/get_server_info", self._server_info),
            web.get("/get_model_info", self._model_info),
            web.post("/generate", self._generate),
            web.post("/v1/chat/completions", self._chat),
        ]

    async def _workers(self, _request: web.Request) -> web.Response:
        worker = {"id": "1", "url": self._engine.url, "worker_type": "regular", "is_healthy": True}
        return json_response({"workers": [worker], "total": 1, "stats": {"regular_count": 1}})

    async def _server_info(self, _request: web.Request) -> web.Response:
        return json_response({"router_manager": True, "routers_count": 1, "workers_count": 1})

    async def _model_info(self, _request: web.Request) -> web.Response:
        return await self._forward("GET", "/get_model_info", None, {})

    async def _generate(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        known = {key: value for key, value in body.items() if key in _GENERATE | self._passes_on}
        return await self._forward("POST", "/generate", known, dict(request.headers))

    async def _chat(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        if any(message.get("content") == "" for message in body["messages"] if message["role"] == "user"):
            return web.Response(status=400, text="messages: Validation error: message content cannot be empty")
        known = {key: value for key, value in body.items() if key in _CHAT}
        if (length := body.get("max_completion_tokens") or body.get("max_tokens")) is not None:
            known["max_completion_tokens"] = length
        return await self._forward("POST", "/v1/chat/completions", known, dict(request.headers))

    async def _forward(self, method: str, path: str, body: Any, headers: dict[str, str]) -> web.Response:
        kept = {name: value for name, value in headers.items() if name.lower().startswith("x-smg-")}
        async with aiohttp.ClientSession() as session:
            for _ in range(ATTEMPTS):
                self.asked += 1
                async with session.request(method, self._engine.url + path, json=body, headers=kept) as response:
                    content = await response.read()
                if response.status not in _REPEATED:
                    break
        passed = {name: response.headers[name] for name in ("Retry-After",) if name in response.headers}
        return web.Response(status=response.status, body=content, content_type=response.content_type, headers=passed)
