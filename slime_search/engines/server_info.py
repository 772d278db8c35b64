"""What stands at an engine's address: an engine, or a router with engines behind it, and what these say of themselves.

Only addresses are asked that answer without work: ``/workers`` of SGLang's router, ``/server_info`` (formerly
``/get_server_info``) of SGLang, ``/version`` of vLLM, and ``/v1/models`` of all. A router forwards none of the engine's
own, so the engine behind it is asked directly.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp

from slime_search.core.engine import ContextLimits

_TIMEOUT_S = 5.0
_NAMES = {"sglang": "SGLang", "vllm": "vLLM"}
_SGLANG_RESERVE = 6
"""SGLang (0.5.23) takes prompts that are shorter than its context by more than so many tokens."""
_SGLANG_BEYOND_PROMPT = 4
"""Prompt and completion may be longer by so much than what a prompt has to be shorter than."""


class ServerKind(StrEnum):
    ENGINE = "engine"
    ROUTER = "router"
    UNKNOWN = "unknown"
    """Nothing answers."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What answers at ``url``.

    ``workers`` are the engines behind a router. ``software``, ``version`` and ``limits`` are those of the engine, where
    there are several those of the first that answers; None where it does not tell.
    """

    url: str
    kind: ServerKind = ServerKind.UNKNOWN
    workers: tuple[str, ...] = ()
    software: str | None = None
    version: str | None = None
    limits: ContextLimits | None = None

    @property
    def is_router(self) -> bool:
        return self.kind is ServerKind.ROUTER

    def __str__(self) -> str:
        """``the router at URL, before 2 × SGLang 0.5.23``, or ``SGLang 0.5.23 at URL``."""
        engine = " ".join(filter(None, (self.software or "engine of version", self.version or "unknown")))
        if not self.is_router:
            return f"{engine} at {self.url}" if self.kind is ServerKind.ENGINE else f"the server at {self.url}"
        behind = f"before {len(self.workers)} × {engine}" if self.workers else "without an engine behind it"
        return f"the router at {self.url}, {behind}"


async def ask_server(url: str, token: str | None = None) -> ServerInfo:
    """Asks what stands at ``url``, a base URL; ``token`` is the bearer token of its requests. Never raises."""
    url = url.rstrip("/")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), headers=headers) as session:
        try:
            workers = _workers(await _get(session, url + "/workers"))
        except (aiohttp.ClientError, TimeoutError):
            return ServerInfo(url)
        # The embedded engine names itself there.
        if workers is None or url in workers:
            return await _ask_engine(session, url, url, ServerKind.ENGINE, ())
        for worker in workers:
            info = await _ask_engine(session, worker, url, ServerKind.ROUTER, workers)
            if info.version or info.limits:
                return info
        return ServerInfo(url, ServerKind.ROUTER, workers)


async def _ask_engine(
    session: aiohttp.ClientSession, engine: str, url: str, kind: ServerKind, workers: tuple[str, ...]
) -> ServerInfo:
    async def answer_of(path: str) -> Mapping[str, Any]:
        try:
            body = await _get(session, engine + path)
        except (aiohttp.ClientError, TimeoutError):
            body = None
        return body if isinstance(body, dict) else {}

    server, older, version, models = await asyncio.gather(
        *map(answer_of, ("/server_info", "/get_server_info", "/version", "/v1/models"))
    )
    sglang = server or older
    card = _first_model(models)
    software = card.get("owned_by") if isinstance(card.get("owned_by"), str) else None
    if sglang and software not in _NAMES:
        software = "sglang"
    number = sglang.get("version") or version.get("version")
    return ServerInfo(
        url,
        kind,
        workers,
        _NAMES.get(software or "", software),
        number if isinstance(number, str) else None,
        _limits(sglang, card, software),
    )


async def _get(session: aiohttp.ClientSession, url: str) -> Any:
    """The decoded answer; None where it is no JSON, or an error.

    Raises:
        aiohttp.ClientError, TimeoutError: nothing answers.
    """
    async with session.get(url) as response:
        if response.status != 200:
            return None
        try:
            return await response.json(content_type=None)
        except ValueError:
            return None


def _workers(body: Any) -> tuple[str, ...] | None:
    """The addresses of a router's engines; None where it is no router's answer."""
    match body:
        case {"workers": list(workers)}:
            urls = (worker.get("url") for worker in workers if isinstance(worker, dict))
            return tuple(url.rstrip("/") for url in urls if isinstance(url, str))
    return None


def _first_model(models: Mapping[str, Any]) -> Mapping[str, Any]:
    match models.get("data"):
        case [dict(card), *_]:
            return card
    return {}


def _limits(sglang: Mapping[str, Any], card: Mapping[str, Any], software: str | None) -> ContextLimits | None:
    """From SGLang's ``max_req_input_len``, which a prompt must be shorter than, or from the length of the context."""
    if software == "sglang":
        context = _count(sglang.get("context_length")) or _count(card.get("max_model_len"))
        longest = _count(sglang.get("max_req_input_len")) or (context and context - _SGLANG_RESERVE)
        return ContextLimits(longest - 1, longest + _SGLANG_BEYOND_PROMPT) if longest and longest > 1 else None
    if context := _count(card.get("max_model_len")):
        return ContextLimits(context - 1, context)
    return None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
