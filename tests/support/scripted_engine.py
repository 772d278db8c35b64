"""A server in the shape of SGLang's ``/generate`` whose completions a Python function writes.

It tokenises as a sampling model may and a tokenizer never would: the text falls into random pieces that are encoded one
by one, so whoever tokenises the text again gets other ids. Log-probabilities are random and so identify their token.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests.support.loopback import Fault, LoopbackServer, json_response, until
from tests.support.told_tokens import told_of

Policy = Callable[[str], str]
"""From the text of the whole context to the text that follows."""


@dataclass(frozen=True)
class Abort:
    """The engine stops after ``tokens`` tokens; ``held`` waits for ``/abort_request`` first."""

    tokens: int
    held: bool = False


@dataclass
class Exchange:
    """One request and what was answered. ``delivered`` is False while a fault took the place of the answer."""

    number: int
    body: dict[str, Any]
    headers: Mapping[str, str]
    prompt: str
    output_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    delivered: bool = False

    @property
    def input_ids(self) -> list[int]:
        ids: list[int] = self.body["input_ids"]
        return ids

    @property
    def sampling_params(self) -> dict[str, Any]:
        params: dict[str, Any] = self.body["sampling_params"]
        return params

    @property
    def is_probe(self) -> bool:
        """Whether it only asks what the server takes."""
        return set(self.input_ids) == {0}


class Emitter:
    """Turns a policy's text into a completion, token by token, as an engine would."""

    def __init__(self, tokenizer: Any, policy: Policy, *, seed: int = 0) -> None:
        self.tokenizer = tokenizer
        self._policy = policy
        self._random = random.Random(seed)
        self._specials = re.compile("|".join(map(re.escape, sorted(tokenizer.all_special_tokens, key=len))))

    def prompt(self, input_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(input_ids), skip_special_tokens=False)
        return text

    def complete(self, exchange: Exchange, abort: Abort | None = None) -> None:
        if exchange.is_probe:
            exchange.output_ids, exchange.log_probs, exchange.text, exchange.finish = [5], [-1.0], "x", "length"
            return
        params = exchange.sampling_params
        stop, limit = params.get("stop") or [], params["max_new_tokens"]
        ids: list[int] = []
        exchange.finish = "stop"
        for token in self._tokenise(self._policy(exchange.prompt)):
            if abort is not None and len(ids) == abort.tokens:
                break
            ids.append(token)
            exchange.text = self._decode(ids, params)
            # SGLang looks at the length first, even when this token completes a stop string.
            if len(ids) == limit:
                exchange.finish = "length"
                break
            if any(s in exchange.text for s in ([stop] if isinstance(stop, str) else stop)):
                break
        if abort is not None:
            exchange.finish = "abort"
        exchange.output_ids = ids
        exchange.log_probs = [-self._random.expovariate(1.0) for _ in ids]

    def _decode(self, ids: list[int], params: Mapping[str, Any]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=params.get("skip_special_tokens", True))
        return text

    def _tokenise(self, text: str) -> Iterable[int]:
        position = 0
        while position < len(text):
            if special := self._specials.match(text, position):
                piece = special.group()
            else:
                ahead = self._specials.search(text, position)
                limit = ahead.start() if ahead else len(text)
                piece = text[position : min(position + self._random.randint(1, 6), limit)]
            yield from self.tokenizer.encode(piece, add_special_tokens=False)
            position += len(piece)


def top_log_probs(count: int, temperature: float) -> list[float]:
    """Of the likeliest tokens after a probe, as if sampled at ``temperature``."""
    return [-(0.5 + rank) / temperature for rank in range(count)]


def sglang_answer(exchange: Exchange) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "id": f"request-{exchange.number}",
        "finish_reason": {"type": exchange.finish},
        "prompt_tokens": len(exchange.input_ids),
        "completion_tokens": len(exchange.output_ids),
        "cached_tokens": 0,
        "weight_version": "default",
    }
    if exchange.body.get("return_logprob"):
        pairs = zip(exchange.log_probs, exchange.output_ids, strict=True)
        meta["output_token_logprobs"] = [[value, token, None] for value, token in pairs]
    meta |= told_of(exchange.body, exchange.input_ids, exchange.output_ids)
    if count := exchange.body.get("top_logprobs_num"):
        tops = top_log_probs(count, exchange.sampling_params.get("temperature", 1.0))
        meta["output_top_logprobs"] = [[[value, token, None] for token, value in enumerate(tops)]]
    return {"text": exchange.text, "output_ids": exchange.output_ids, "meta_info": meta}


class ScriptedEngine(LoopbackServer):
    """``script`` may name a fault or an Abort for any request.

    ``context_length`` is what it tells of itself, and it refuses what SGLang would refuse then; None tells nothing.
    Each answer waits for ``latency_s`` and then for ``gate``. ``held`` counts the requests that wait for an abort.
    """

    def __init__(self, tokenizer: Any, policy: Policy, *, seed: int = 0) -> None:
        super().__init__()
        self._emitter = Emitter(tokenizer, policy, seed=seed)
        self._abort_requested = asyncio.Event()
        self._generating = 0
        self.held = 0
        self.gate: Callable[[Exchange], Awaitable[None]] | None = None
        self.script: Callable[[Exchange], Fault | Abort | None] = lambda exchange: None
        self.latency_s = 0.0
        self.context_length: int | None = None
        self.exchanges: list[Exchange] = []
        self.aborts = 0
        self.connections: set[tuple[str, int]] = set()

    @property
    def delivered(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.delivered]

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post("/generate", self._generate),
            web.post("/abort_request", self._abort),
            web.get("/workers", self._workers),
            web.get("/v1/loads", self._loads),
            web.get("/model_info", self._model_info),
            web.get("/get_model_info", self._model_info),
            web.get("/server_info", self._server_info),
        ]

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        exchange = self._open(body, dict(request.headers))
        self.exchanges.append(exchange)
        if peer := request.transport and request.transport.get_extra_info("peername"):
            self.connections.add(peer)
        if refused := self._refused(exchange):
            return web.Response(status=400, text=refused)
        scripted = self.script(exchange)
        self._generating += 1
        try:
            await asyncio.sleep(self.latency_s)
            if self.gate is not None:
                await self.gate(exchange)
            if isinstance(scripted, Abort) and scripted.held:
                self.held += 1
                await self._abort_requested.wait()
        finally:
            self._generating -= 1
        self._emitter.complete(exchange, scripted if isinstance(scripted, Abort) else None)
        if scripted is not None and not isinstance(scripted, Abort):
            return await scripted(request, self._answer(exchange))
        exchange.delivered = True
        return json_response(self._answer(exchange))

    def _refused(self, exchange: Exchange) -> str | None:
        """As SGLang 0.5.23: a prompt shorter than its context by 7 tokens or more, all together no longer than it."""
        if self.context_length is None:
            return None
        prompt, new = len(exchange.input_ids), exchange.sampling_params["max_new_tokens"]
        fits = prompt < self.context_length - 6 and prompt + new <= self.context_length
        return None if fits else f"{prompt} and {new} tokens do not fit"

    def _open(self, body: dict[str, Any], headers: Mapping[str, str]) -> Exchange:
        return Exchange(len(self.exchanges), body, headers, self._emitter.prompt(body["input_ids"]))

    def _answer(self, exchange: Exchange) -> Any:
        return sglang_answer(exchange)

    async def _abort(self, request: web.Request) -> web.StreamResponse:
        self.aborts += 1
        self._abort_requested.set()
        # Held requests end before this answer, so that a caller that then asks for the load finds none.
        await until(lambda: self._generating == 0)
        self._abort_requested.clear()
        self.held = 0
        return json_response({"success": True})

    async def _workers(self, request: web.Request) -> web.StreamResponse:
        return json_response({"workers": [{"url": self.url}]})

    async def _loads(self, request: web.Request) -> web.StreamResponse:
        return json_response({"loads": [{"num_running_reqs": self._generating, "num_waiting_reqs": 0}]})

    async def _server_info(self, request: web.Request) -> web.StreamResponse:
        if self.context_length is None:
            return web.Response(status=404)
        told = {"version": "0.5.23", "context_length": self.context_length}
        return json_response({**told, "max_req_input_len": self.context_length - 6})

    async def _model_info(self, request: web.Request) -> web.StreamResponse:
        return json_response({"model_path": "scripted", "is_generation": True})


class MemoryEngine:
    """The same completions without HTTP: an ``Engine`` for tests of the loop alone."""

    def __init__(self, tokenizer: Any, policy: Policy, *, seed: int = 0) -> None:
        self._emitter = Emitter(tokenizer, policy, seed=seed)
        self.script: Callable[[Exchange], Abort | Exception | None] = lambda exchange: None
        self.limits: Any = None
        self.exchanges: list[Exchange] = []

    async def generate(
        self, input_ids: Sequence[int], sampling_params: Mapping[str, Any], *, session_id: str | None = None
    ) -> Any:
        from slime_search.core.engine import Completion, Finish

        body = {"input_ids": list(input_ids), "sampling_params": dict(sampling_params), "return_logprob": True}
        exchange = Exchange(len(self.exchanges), body, {}, self._emitter.prompt(input_ids))
        self.exchanges.append(exchange)
        scripted = self.script(exchange)
        if isinstance(scripted, Exception):
            raise scripted
        self._emitter.complete(exchange, scripted)
        exchange.delivered = True
        return Completion(exchange.output_ids, exchange.log_probs, Finish(exchange.finish))

    async def context_limits(self) -> Any:
        return self.limits
