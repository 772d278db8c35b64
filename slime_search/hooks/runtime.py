"""What a recipe needs of the process that it runs in: slime's own when slime drives it, a plain one otherwise."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from slime_search.config import SearchConfig
from slime_search.core.engine import Engine
from slime_search.core.tokens import Tokenizer
from slime_search.engines.chat import ChatEngine, TokenIn
from slime_search.engines.completions import CompletionsEngine
from slime_search.engines.endpoint import Endpoint
from slime_search.engines.sglang import SGLangEngine
from slime_search.errors import ConfigError, RefusedRequest, TransientFault
from slime_search.transport.client import PooledSender, Send, ServiceClient


@dataclass(frozen=True, slots=True)
class Runtime:
    """The policy's tokenizer, and whether the trainer has called the rollout off."""

    tokenizer: Tokenizer
    cancelled: Callable[[], bool]


def runtime(args: Any) -> Runtime:
    """slime's ``GenerateState`` where slime's rollout runs; else the tokenizer of ``args.hf_checkpoint``."""
    rollout = sys.modules.get("slime.rollout.sglang_rollout")
    if rollout is None:
        return Runtime(load_tokenizer(args.hf_checkpoint), lambda: False)
    state = rollout.GenerateState(args)
    return Runtime(state.tokenizer, lambda: bool(state.aborted))


@cache
def load_tokenizer(checkpoint: str) -> Tokenizer:
    """The tokenizer of a Hugging Face folder or name."""
    from transformers import AutoTokenizer

    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=True)
    return tokenizer


def policy_url(args: Any) -> str:
    """Base URL of slime's router, or of the endpoint that takes its place."""
    endpoint = _endpoint(args)
    return endpoint.url.rstrip("/") if endpoint else router_url(args.sglang_router_ip, args.sglang_router_port)


def router_url(ip: Any, port: Any) -> str:
    """Base URL of a router, whose IPv6 address may stand in brackets."""
    host = str(ip).strip("[]")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def policy_engine(args: Any, config: SearchConfig) -> Engine:
    """The engine behind slime's router, with the options that slime's arguments ask for, or that of an endpoint."""
    client = ServiceClient("engine", _engine_sender(args, config), attempts=config.engine_attempts)
    endpoint = _endpoint(args)
    if endpoint and endpoint.protocol == "completions":
        return CompletionsEngine(client, endpoint.url, load_tokenizer(args.hf_checkpoint), model=endpoint.model)
    return SGLangEngine(
        client,
        policy_url(args),
        return_logprob=config.return_logprob,
        sticky=_is_sticky(args),
        extra=_extra_fields(args),
    )


def policy_chat(
    args: Any, config: SearchConfig, decode: Callable[[Sequence[int]], str], tools: Sequence[Mapping[str, Any]]
) -> ChatEngine:
    """The chat route behind slime's router."""
    endpoint = _endpoint(args)
    return ChatEngine(
        ServiceClient("engine", _engine_sender(args, config), attempts=config.engine_attempts),
        policy_url(args),
        decode=decode,
        tools=tools,
        model=endpoint.model if endpoint else config.chat.model,
        template_kwargs=config.chat.template_kwargs,
        token_in=None if config.chat.token_in == "auto" else TokenIn(config.chat.token_in),
        return_logprob=config.return_logprob,
        sticky=_is_sticky(args),
        extra=_extra_fields(args),
    )


def _endpoint(args: Any) -> Endpoint | None:
    return getattr(args, "endpoint", None)


def _is_sticky(args: Any) -> bool:
    return getattr(args, "router_policy", None) == "consistent_hashing"


def _extra_fields(args: Any) -> dict[str, Any]:
    """What slime's arguments ask of every engine request."""
    return {"return_routed_experts": True} if getattr(args, "use_rollout_routing_replay", False) else {}


def _engine_sender(args: Any, config: SearchConfig) -> Send:
    if getattr(args, "use_distributed_post", False):
        return _distributed_post
    endpoint = _endpoint(args)
    # slime bounds the samples in flight itself; the pool must not be the narrower limit.
    return PooledSender(
        concurrency=args.sglang_server_concurrency * _num_engines(args),
        timeout_s=config.engine_timeout_s,
        token=endpoint.token if endpoint else None,
    )


def _num_engines(args: Any) -> int:
    """Engines behind the router, counted as slime does: told, or its GPUs divided by those of one engine."""
    told = getattr(args, "rollout_num_engines", None)
    if told is not None:
        return max(1, int(told))
    gpus = getattr(args, "rollout_num_gpus", None) or 0
    return max(1, gpus // (getattr(args, "rollout_num_gpus_per_engine", None) or 1))


async def _distributed_post(url: str, payload: Any, headers: Any) -> Any:
    """slime's Ray actors carry the request, once: the retries are ours."""
    import httpx
    from slime.utils.http_utils import post

    try:
        return await post(url, payload, max_retries=1, headers=dict(headers) or None)
    except httpx.HTTPStatusError as error:
        if 400 <= error.response.status_code < 500:
            raise RefusedRequest(str(error)) from error
        raise TransientFault(str(error)) from error
    except httpx.HTTPError as error:
        raise TransientFault(f"{type(error).__name__}: {error}") from error


def model_url(args: Any, name: str, *, key: str) -> str:
    """Base URL of that model's router.

    slime's own ``get_model_url`` answers an unknown name with the policy's router, and a frozen model's questions would
    go to the policy.

    Raises:
        ConfigError: slime serves no model of that name; it names the configuration's ``key``.
    """
    routers = getattr(args, "sglang_model_routers", None) or {}
    if name not in routers:
        known = f"it serves {', '.join(routers)}" if routers else "it was started without one"
        raise ConfigError(f"{key} = {name!r}: no model of slime's --sglang-config has that name; {known}")
    return router_url(*routers[name])
