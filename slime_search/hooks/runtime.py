"""What a recipe needs of the process that it runs in: slime's own when slime drives it, a plain one otherwise."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from slime_search.config import SearchConfig
from slime_search.core.engine import Engine
from slime_search.core.tokens import Tokenizer
from slime_search.engines.chat import ChatEngine
from slime_search.engines.completions import CompletionsEngine
from slime_search.engines.endpoint import Endpoint
from slime_search.engines.sglang import SGLangEngine
from slime_search.engines.token_in import TokenIn
from slime_search.errors import ConfigError, RefusedRequest, TransientFault
from slime_search.hooks.contract import Args, option
from slime_search.transport.client import RETRIABLE_STATUS, PooledSender, Send, ServiceClient, fault_of


@dataclass(frozen=True, slots=True)
class Runtime:
    """The policy's tokenizer, and whether the trainer has cancelled the rollout; None where nothing can cancel it."""

    tokenizer: Tokenizer
    cancelled: Callable[[], bool] | None = None


def runtime(args: Args) -> Runtime:
    """slime's ``GenerateState`` where slime's rollout runs; else the tokenizer of ``args.hf_checkpoint``."""
    rollout = sys.modules.get("slime.rollout.sglang_rollout")
    if rollout is None:
        return Runtime(load_tokenizer(args.hf_checkpoint))
    state = rollout.GenerateState(args)
    return Runtime(state.tokenizer, lambda: bool(state.aborted))


@cache
def load_tokenizer(checkpoint: str) -> Tokenizer:
    """The tokenizer of a Hugging Face folder or name."""
    from transformers import AutoTokenizer

    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=True)
    return tokenizer


def policy_url(args: Args) -> str:
    """Base URL of slime's router, or of the endpoint that takes its place."""
    endpoint = _endpoint(args)
    return endpoint.url.rstrip("/") if endpoint else router_url(args.sglang_router_ip, args.sglang_router_port)


def router_url(ip: str, port: int) -> str:
    """Base URL of a router, whose IPv6 address may stand in brackets."""
    host = ip.strip("[]")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def policy_engine(args: Args, config: SearchConfig) -> Engine:
    """The engine behind slime's router, with the options that slime's arguments ask for, or that of an endpoint."""
    client = _engine_client(args, config)
    endpoint = _endpoint(args)
    if endpoint and endpoint.protocol == "completions":
        tokenizer = load_tokenizer(args.hf_checkpoint)
        return CompletionsEngine(client, endpoint.url, tokenizer, model=endpoint.model, token=endpoint.token)
    return SGLangEngine(
        client,
        policy_url(args),
        return_logprob=config.return_logprob,
        sticky=_is_sticky(args),
        extra=_extra_fields(args),
        token=endpoint.token if endpoint else None,
    )


def policy_chat(args: Args, config: SearchConfig, tools: Sequence[Mapping[str, Any]]) -> ChatEngine:
    """The engine behind slime's router, for a policy that calls ``tools``."""
    endpoint = _endpoint(args)
    return ChatEngine(
        _engine_client(args, config),
        policy_url(args),
        tools=tools,
        model=endpoint.model if endpoint else config.chat.model,
        template_kwargs=config.chat.template_kwargs,
        token_in=None if config.chat.token_in == "auto" else TokenIn(config.chat.token_in),
        return_logprob=config.return_logprob,
        sticky=_is_sticky(args),
        extra=_extra_fields(args),
        token=endpoint.token if endpoint else None,
    )


def _endpoint(args: Args) -> Endpoint | None:
    endpoint: Endpoint | None = option(args, "endpoint")
    return endpoint


def _is_sticky(args: Args) -> bool:
    return bool(option(args, "router_policy") == "consistent_hashing")


def _extra_fields(args: Args) -> dict[str, Any]:
    """What slime's arguments ask of every engine request."""
    return {"return_routed_experts": True} if option(args, "use_rollout_routing_replay") else {}


def _engine_client(args: Args, config: SearchConfig) -> ServiceClient:
    """A request that hung for as long as one may take is not tried again, which would hold the rollout for hours."""
    sender = _engine_sender(args, config)
    return ServiceClient("engine", sender, attempts=config.engine_attempts, patience_s=config.engine_timeout_s)


def _engine_sender(args: Args, config: SearchConfig) -> Send:
    if option(args, "use_distributed_post"):
        return _distributed_post
    endpoint = _endpoint(args)
    # slime bounds the samples in flight itself; the pool must not be the narrower limit.
    return PooledSender(
        concurrency=args.sglang_server_concurrency * _num_engines(args),
        timeout_s=config.engine_timeout_s,
        token=endpoint.token if endpoint else None,
    )


def _num_engines(args: Args) -> int:
    """Engines behind the router, counted as slime does: as configured, or its GPUs divided by those of one engine."""
    configured = option(args, "rollout_num_engines")
    if configured is not None:
        return max(1, int(configured))
    gpus = option(args, "rollout_num_gpus") or 0
    return max(1, gpus // (option(args, "rollout_num_gpus_per_engine") or 1))


async def _distributed_post(url: str, payload: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
    """slime's Ray actors carry the request, once: the retries are ours."""
    import httpx
    from slime.utils.http_utils import post

    try:
        return await post(url, payload, max_retries=1, headers=dict(headers) or None)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if 400 <= status < 500 and status not in RETRIABLE_STATUS:
            raise RefusedRequest(str(error), status=status) from error
        raise fault_of(status, error.response.headers, str(error)) from error
    except httpx.HTTPError as error:
        raise TransientFault(f"{type(error).__name__}: {error}") from error


def model_url(args: Args, name: str, *, key: str) -> str:
    """Base URL of that model's router.

    slime's own ``get_model_url`` answers an unknown name with the policy's router, and a frozen model's questions would
    go to the policy.

    Raises:
        ConfigError: slime serves no model of that name; it names the configuration's ``key``.
    """
    routers = option(args, "sglang_model_routers") or {}
    if name not in routers:
        known = f"it serves {', '.join(routers)}" if routers else "it was started without one"
        raise ConfigError(f"{key} = {name!r}: no model of slime's --sglang-config has that name; {known}")
    return router_url(*routers[name])
