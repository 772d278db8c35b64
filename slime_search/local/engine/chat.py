"""SGLang's ``/v1/chat/completions`` on the wire: the request's body and the answer's."""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from tokenizers import decoders
from transformers import PreTrainedTokenizerBase

from slime_search.core.byte_alphabet import BYTE_OF
from slime_search.local.engine.chat_prompt import Message, Tool, parse_tool_calls
from slime_search.local.engine.params import BadRequest, SamplingParams, Seed, drop_neutral, refuse
from slime_search.local.engine.protocol import meta_info
from slime_search.local.engine.sequences import Completion

DEFAULTED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Sampling parameters whose defaults are the model's ``generation_config.json``, if it has any."""

# The sampling parameters that a chat names as /generate does.
_SAMPLING = [
    *DEFAULTED,
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "no_stop_trim",
    "skip_special_tokens",
    "custom_params",
    "n",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "stop_regex",
    "regex",
    "ebnf",
    "watermark",
]

# What SGLang's chat offers and this engine does not, with the values at which it asks for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "stream": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "continue_final_message": (False,),
    "reasoning": (),
    "reasoning_effort": (),
    "return_hidden_states": (False,),
    "return_routed_experts": (False,),
    "return_cached_tokens_details": (False,),
    "return_input_ids_in_sglext": (False,),
    "return_output_ids_in_sglext": (False,),
    "return_sampling_mask": (False,),
    "return_flat_raw_output_top_logprobs": (False,),
    "custom_logit_processor": (),
    "session_params": (),
    "lora_path": (),
}

_Count = Annotated[int, Field(ge=0)]


class TokenTexts:
    """Text and bytes of single tokens. A token that is part of a character has only its bytes to show."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._byte_level = backend is not None and isinstance(backend.decoder, decoders.ByteLevel)
        self.text = lru_cache(maxsize=2**16)(self._text)
        """The token's text, special tokens included."""
        self.bytes = lru_cache(maxsize=2**16)(self._bytes)
        """The token's bytes, as numbers."""

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))

    def _bytes(self, token: int) -> tuple[int, ...]:
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if self._byte_level and piece and all(character in BYTE_OF for character in piece):
            return tuple(BYTE_OF[character] for character in piece)
        return tuple(self.text(token).encode())


class ChatBody(BaseModel):
    """One request. Fields that are not SGLang's are ignored, as SGLang does."""

    model_config = ConfigDict(strict=True, frozen=True)

    messages: Annotated[list[Message], Field(min_length=1)]
    input_ids: list[int] | None = None
    """The prompt. If it is given, ``messages`` are not rendered."""
    model: str = "default"
    tools: list[Tool] = []
    tool_choice: Literal["auto", "none"] = "auto"
    chat_template_kwargs: dict[str, Any] = {}
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    """Goes before ``max_tokens``; without either, as many as the context holds."""
    min_tokens: _Count = 0
    seed: Seed | None = None
    logprobs: bool = False
    return_prompt_token_ids: bool = False
    return_token_ids: bool = False
    return_meta_info: bool = False
    rid: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, fields: Any) -> Any:
        fields = drop_neutral(fields, _NEUTRAL)
        return {k: v for k, v in fields.items() if v is not None} if isinstance(fields, dict) else fields

    @field_validator("chat_template_kwargs")
    @classmethod
    def _no_template(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "chat_template" in value:
            raise ValueError("chat_template can't come with a request; leave it out")
        return value

    @property
    def active_tools(self) -> list[Tool]:
        """Those that the model may call."""
        return self.tools if self.tool_choice == "auto" else []


def parse_chat(body: Any, defaults: Mapping[str, Any]) -> tuple[ChatBody, SamplingParams]:
    """The request in a decoded JSON body; ``defaults`` are the model's.

    Raises:
        BadRequest: it is malformed, or asks for what this engine does not have.
    """
    try:
        chat = ChatBody.model_validate(body)
        asked = {name: body[name] for name in _SAMPLING if body.get(name) is not None}
        own = _checked({name: value for name, value in defaults.items() if name not in asked})
        renamed = {
            "max_new_tokens": chat.max_completion_tokens or chat.max_tokens,
            "min_new_tokens": chat.min_tokens,
            "sampling_seed": chat.seed,
            "spaces_between_special_tokens": chat.chat_template_kwargs.get("spaces_between_special_tokens", True),
        }
        shown = {"skip_special_tokens": False} if chat.active_tools else {}
        return chat, SamplingParams.model_validate({**own, **asked, **renamed, **shown})
    except ValidationError as error:
        refuse(error)


def _checked(own: dict[str, Any]) -> dict[str, Any]:
    try:
        SamplingParams.model_validate(own)
    except ValidationError:
        raise BadRequest(
            f"the model's generation_config.json asks for {own}, which this engine can't do; send your own values"
        ) from None
    return own


def chat_answer(
    rid: str,
    chat: ChatBody,
    prompt_ids: Sequence[int],
    completion: Completion,
    text: str,
    *,
    token_texts: TokenTexts,
    e2e_latency_s: float,
) -> dict[str, Any]:
    """The answer. Only its ``message`` is changed by tool calls; ids and log-probabilities are those sampled."""
    texts = [token_texts.text(token) for token in completion.output_ids] if chat.logprobs else None
    meta = meta_info(rid, prompt_ids, completion, texts, e2e_latency_s)
    message: dict[str, Any] = {"role": "assistant", "content": text, "reasoning_content": None}
    if chat.active_tools:
        names = {tool.function["name"] for tool in chat.active_tools}
        message["content"], calls = parse_tool_calls(text, names)
        if calls:
            message["tool_calls"] = calls
            if meta["finish_reason"]["type"] == "stop":
                meta["finish_reason"] = {"type": "tool_calls", "matched": None}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": {"content": _logprobs(completion, token_texts)} if chat.logprobs else None,
        "finish_reason": meta["finish_reason"]["type"],
        "matched_stop": meta["finish_reason"].get("matched"),
    }
    if chat.return_prompt_token_ids or chat.return_token_ids:
        choice["prompt_token_ids"] = prompt_ids
    if chat.return_token_ids:
        choice["response_token_ids"] = completion.output_ids
    if chat.return_meta_info:
        choice["meta_info"] = meta
    return {
        "id": rid,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": chat.model,
        "choices": [choice],
        "usage": _usage(meta.get("prompt_tokens", 0), meta["completion_tokens"]),
        "metadata": {name: meta[name] for name in ("weight_version", "weight_versions")},
    }


def _logprobs(completion: Completion, texts: TokenTexts) -> list[dict[str, Any]]:
    return [
        {"token": texts.text(token), "bytes": texts.bytes(token), "logprob": log_prob, "top_logprobs": []}
        for token, log_prob in zip(completion.output_ids, completion.log_probs, strict=True)
    ]


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": None,
        "reasoning_tokens": 0,
        "completion_tokens_details": None,
    }


def chat_error(message: str, status: int) -> dict[str, Any]:
    """OpenAI's routes of SGLang answer errors flat, unlike ``/generate``."""
    kind = "BadRequestError" if status == 400 else "InternalServerError" if status >= 500 else "RequestError"
    return {"object": "error", "message": message, "type": kind, "param": None, "code": status}


def model_list(name: str, context_length: int) -> dict[str, Any]:
    """What ``/v1/models`` answers."""
    card = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "sglang"}
    return {"object": "list", "data": [card | {"root": name, "parent": None, "max_model_len": context_length}]}
