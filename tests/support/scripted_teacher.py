"""A server that knows a log-probability for every token after every other, and tells it in one of several ways."""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal

import orjson
from aiohttp import web

from tests.support.loopback import Fault, LoopbackServer, json_response

Style = Literal["sglang", "vllm", "echo", "text"]
"""Where prompt log-probabilities stand: SGLang's /generate, vLLM's prompt_logprobs, OpenAI's echo, nowhere."""


@lru_cache(maxsize=100_000)
def opinion(before: int, token: int) -> float:
    """What the teacher thinks of ``token`` after ``before``."""
    return -random.Random(before * 1_000_003 + token).expovariate(0.7)


def opinions(token_ids: Sequence[int], start: int) -> list[float]:
    """Of the tokens from ``start`` on."""
    return [opinion(token_ids[at - 1], token_ids[at]) for at in range(start, len(token_ids))]


class ScriptedTeacher(LoopbackServer):
    """``script`` may name a fault for the request of these prompts.

    Args:
        tokenizer: its own.
        style: how it tells log-probabilities.
        takes_batches: whether a request may hold several prompts.
        longest: tokens of a prompt at most.
    """

    def __init__(
        self, tokenizer: Any, *, style: Style = "sglang", takes_batches: bool = True, longest: int = 100_000
    ) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._style = style
        self._takes_batches = takes_batches
        self._longest = longest
        self.script: Callable[[list[list[int]]], Fault | None] = lambda prompts: None
        self.gate: Callable[[list[list[int]]], Any] | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.scored_tokens = 0

    @property
    def prompts(self) -> list[list[list[int]]]:
        """The prompts of each request."""
        return [_prompts(body) for body in self.requests]

    def routes(self) -> Iterable[web.RouteDef]:
        yield web.get("/v1/models", self._models)
        if self._style == "sglang":
            yield web.post("/generate", self._generate)
        yield web.post("/v1/completions", self._complete)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return json_response({"object": "list", "data": [{"id": "the-teacher", "object": "model"}]})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        def answer(body: dict[str, Any]) -> Any:
            starts = body["logprob_start_len"]
            many = isinstance(starts, list)
            rows = [
                self._sglang(ids, start, body.get("return_text_in_logprobs", False))
                for ids, start in zip(_prompts(body), starts if many else [starts], strict=True)
            ]
            return rows if many else rows[0]

        return await self._answer(request, answer)

    def _sglang(self, ids: list[int], start: int, with_texts: bool) -> dict[str, Any]:
        values = [None, *opinions(ids, start + 1)]
        self.scored_tokens += len(values) - 1
        texts = [self._tokenizer.decode([i]) if with_texts else None for i in ids[start:]]
        rows = [list(row) for row in zip(values, ids[start:], texts, strict=True)]
        meta = {"finish_reason": {"type": "length", "length": 0}, "input_token_logprobs": rows}
        return {"text": "", "meta_info": {**meta, "output_token_logprobs": []}}

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        def answer(body: dict[str, Any]) -> Any:
            choices = [self._choice(n, ids, body) for n, ids in enumerate(_prompts(body))]
            # Servers need not keep the order; index tells it.
            return {"object": "text_completion", "choices": choices[::-1]}

        return await self._answer(request, answer)

    def _choice(self, index: int, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "text": "x", "logprobs": None, "finish_reason": "length"}
        texts = [self._tokenizer.decode([i]) for i in ids]
        values = opinions(ids, 1)
        self.scored_tokens += len(values)
        if self._style == "vllm" and "prompt_logprobs" in body:
            entries = [
                {str(i): {"logprob": value, "rank": 1, "decoded_token": text}, "999": {"logprob": -9.0}}
                for i, value, text in zip(ids[1:], values, texts[1:], strict=True)
            ]
            choice["prompt_logprobs"] = [None, *entries]
        if self._style == "echo" and body.get("echo"):
            choice["logprobs"] = {"token_logprobs": [None, *values, -0.1], "tokens": [*texts, "x"]}
        return choice

    async def _answer(self, request: web.Request, answer: Callable[[dict[str, Any]], Any]) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        prompts = _prompts(body)
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        if self.gate is not None:
            await self.gate(prompts)
        if len(prompts) > 1 and not self._takes_batches:
            return web.Response(status=400, text="one prompt a request")
        if any(i >= len(self._tokenizer) for prompt in prompts for i in prompt):
            return web.Response(status=400, text="a token id is out of vocabulary")
        if max(map(len, prompts)) > self._longest:
            return web.Response(status=400, text="the prompt is longer than the context")
        if (fault := self.script(prompts)) is not None:
            return await fault(request, answer(body))
        return json_response(answer(body))


def _prompts(body: dict[str, Any]) -> list[list[int]]:
    ids = body.get("input_ids", body.get("prompt"))
    assert isinstance(ids, list)
    return ids if ids and isinstance(ids[0], list) else [ids]
