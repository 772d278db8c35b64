"""A server in the shape of ``/v1/chat/completions`` whose completions a Python function writes.

It takes token ids, or renders messages with its tokenizer's own chat template, and says in one of several dialects
which ids it sampled.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiohttp import web

from tests.support.scripted_engine import Emitter, Exchange, Policy, ScriptedEngine, top_log_probs
from tests.support.told_tokens import told_of

Style = Literal["sglang", "sglang 0.5.15", "patched", "vllm", "text"]
"""Where ids stand: SGLang's own fields, ``token_id`` beside each log-probability, vLLM's fields, nowhere."""

Tokenise = Callable[[str], Iterable[int]]

PROBE = [{"role": "user", "content": "Hi"}]


@dataclass
class ChatExchange(Exchange):
    """``input_ids`` is what the completion was conditioned on, sent or rendered."""

    prompt_ids: list[int] = field(default_factory=list)

    @property
    def input_ids(self) -> list[int]:
        return self.prompt_ids

    @property
    def sampling_params(self) -> dict[str, Any]:
        length = self.body.get("max_tokens") or self.body["max_completion_tokens"]
        return {"max_new_tokens": length, "stop": self.body.get("stop"), "skip_special_tokens": False}

    @property
    def is_probe(self) -> bool:
        return bool(self.body["messages"] == PROBE)


class ChatEmitter(Emitter):
    """``tokenise`` in place of the random pieces, if there is one."""

    def __init__(self, tokenizer: Any, policy: Policy, *, seed: int = 0, tokenise: Tokenise | None = None) -> None:
        super().__init__(tokenizer, policy, seed=seed)
        self._given = tokenise

    def _tokenise(self, text: str) -> Iterable[int]:
        return super()._tokenise(text) if self._given is None else self._given(text)


class ScriptedChat(ScriptedEngine):
    """Args:
    takes_ids: conditions on ``input_ids``; else it ignores them and renders ``messages``.
    style: how it says which ids it sampled.
    tokenise: how the policy's text becomes tokens; None for random pieces.
    generates: has ``/generate``, too.
    raw_log_probs: shows them before temperature.
    """

    def __init__(
        self,
        tokenizer: Any,
        policy: Policy,
        *,
        takes_ids: bool = True,
        style: Style = "sglang",
        seed: int = 0,
        tokenise: Tokenise | None = None,
        generates: bool = False,
        raw_log_probs: bool = False,
    ) -> None:
        super().__init__(tokenizer, policy, seed=seed)
        self._generates = generates
        self._raw_log_probs = raw_log_probs
        self._emitter = ChatEmitter(tokenizer, policy, seed=seed, tokenise=tokenise)
        self._tokenizer = tokenizer
        self._takes_ids = takes_ids
        self._style = style

    @property
    def probes(self) -> list[Exchange]:
        return [e for e in self.exchanges if e.is_probe]

    @property
    def turns(self) -> list[Exchange]:
        """The delivered requests of trajectories."""
        return [e for e in self.delivered if not e.is_probe]

    def routes(self) -> Iterable[web.RouteDef]:
        others = [route for route in super().routes() if self._generates or route.path != "/generate"]
        return [web.post("/v1/chat/completions", self._generate), web.get("/version", self._version), *others]

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "0.4.2"})

    def _open(self, body: dict[str, Any], headers: Mapping[str, str]) -> Exchange:
        if "messages" not in body:
            return super()._open(body, headers)
        ids = body["input_ids"] if self._takes_ids and "input_ids" in body else self._render(body)
        return ChatExchange(len(self.exchanges), body, headers, self._emitter.prompt(ids), prompt_ids=list(ids))

    def _render(self, body: Mapping[str, Any]) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            body["messages"],
            tools=body.get("tools"),
            add_generation_prompt=True,
            tokenize=False,
            **body.get("chat_template_kwargs", {}),
        )
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _answer(self, exchange: Exchange) -> Any:
        if not isinstance(exchange, ChatExchange):
            return super()._answer(exchange)
        answer = _ANSWERS[self._style](exchange, self._tokenizer)
        if count := exchange.body.get("top_logprobs"):
            temperature = 1.0 if self._raw_log_probs else exchange.body.get("temperature", 1.0)
            rows = [{"token": str(n), "logprob": value} for n, value in enumerate(top_log_probs(count, temperature))]
            answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = rows
        return answer


def plain_answer(exchange: ChatExchange, tokenizer: Any) -> dict[str, Any]:
    """What OpenAI's API says, without any ids."""
    calls = exchange.finish == "stop" and "<tool_call>" in exchange.text
    tokens = [tokenizer.decode([i]) for i in exchange.output_ids]
    content = [{"token": t, "logprob": p} for t, p in zip(tokens, exchange.log_probs, strict=True)]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": exchange.text},
        "logprobs": {"content": content} if exchange.body.get("logprobs") else None,
        "finish_reason": "tool_calls" if calls else exchange.finish,
    }
    counts = {"prompt_tokens": len(exchange.prompt_ids), "completion_tokens": len(exchange.output_ids)}
    return {"id": f"chat-{exchange.number}", "object": "chat.completion", "choices": [choice], "usage": counts}


def sglang_chat_answer(exchange: ChatExchange, tokenizer: Any) -> dict[str, Any]:
    answer = plain_answer(exchange, tokenizer)
    body = exchange.body
    rows = [[p, i, None] for p, i in zip(exchange.log_probs, exchange.output_ids, strict=True)]
    meta = {"finish_reason": {"type": exchange.finish}, "weight_version": "default", **answer["usage"]}
    if body.get("logprobs"):
        meta["output_token_logprobs"] = rows
    meta |= told_of(body, exchange.prompt_ids, exchange.output_ids)
    choice = answer["choices"][0]
    if body.get("return_prompt_token_ids") or body.get("return_token_ids"):
        choice["prompt_token_ids"] = exchange.prompt_ids
    if body.get("return_token_ids"):
        choice["response_token_ids"] = exchange.output_ids
    if body.get("return_meta_info"):
        choice["meta_info"] = meta
    return answer


def sglang_0_5_15_answer(exchange: ChatExchange, tokenizer: Any) -> dict[str, Any]:
    """Before ``return_token_ids``: the prompt's ids by ``return_prompt_token_ids``, the sampled ones in meta_info."""
    body = {name: value for name, value in exchange.body.items() if name != "return_token_ids"}
    return sglang_chat_answer(replace(exchange, body=body), tokenizer)


def patched_answer(exchange: ChatExchange, tokenizer: Any) -> dict[str, Any]:
    answer = plain_answer(exchange, tokenizer)
    for entry, token in zip(answer["choices"][0]["logprobs"]["content"], exchange.output_ids, strict=True):
        entry["token_id"] = token
    return answer


def vllm_answer(exchange: ChatExchange, tokenizer: Any) -> dict[str, Any]:
    answer = plain_answer(exchange, tokenizer)
    choice = answer["choices"][0]
    for entry, token in zip((choice["logprobs"] or {}).get("content", ()), exchange.output_ids, strict=False):
        entry["token"] = f"token_id:{token}"
    choice["token_ids"] = exchange.output_ids
    answer["prompt_token_ids"] = exchange.prompt_ids
    return answer


_ANSWERS: Mapping[Style, Callable[[ChatExchange, Any], dict[str, Any]]] = {
    "sglang": sglang_chat_answer,
    "sglang 0.5.15": sglang_0_5_15_answer,
    "patched": patched_answer,
    "vllm": vllm_answer,
    "text": plain_answer,
}


def spelled_out(tokenizer: Any, position: int, count: int = 1) -> Tokenise:
    """As the tokenizer has it, but for ``count`` tokens of several characters, the last of them at least ``position``
    tokens before the end: those are sampled one character at a time."""

    def tokenise(text: str) -> Sequence[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        special = set(tokenizer.get_added_vocab().values())
        left = count
        for at in range(len(ids) - position - 1, -1, -1):
            piece = tokenizer.decode([ids[at]])
            if left and ids[at] not in special and len(piece) > 1:
                ids[at : at + 1] = [i for c in piece for i in tokenizer.encode(c, add_special_tokens=False)]
                left -= 1
        assert not left, f"no token to spell out in {text!r}"
        return ids

    return tokenise
