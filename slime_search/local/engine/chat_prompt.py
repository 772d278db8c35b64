"""Messages and tools of a chat, and the prompt that SGLang makes of them."""

import json
import re
import uuid
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

import jinja2
import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from transformers import PreTrainedTokenizerBase

from slime_search.local.engine.params import BadRequest

_STRICT = ConfigDict(strict=True, frozen=True)


class FunctionCall(BaseModel):
    model_config = _STRICT

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCall(BaseModel):
    """A call that the assistant made earlier in the conversation."""

    model_config = _STRICT

    id: str | None = None
    index: int | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(BaseModel):
    model_config = _STRICT

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tools: None = None

    @model_validator(mode="after")
    def _check(self) -> "Message":
        if self.role == "user" and self.content is None:
            raise ValueError("content must be a string in a user's message, got None")
        return self


def _function(fields: dict[str, Any]) -> dict[str, Any]:
    """What SGLang shows templates of a function: its keys in the client's order, and null for absent ones."""
    if not isinstance(name := fields.get("name"), str):
        raise ValueError(f"name must be a string, got {name!r:.200}")
    if fields.get("strict"):
        raise ValueError("strict = True is not supported by this engine; leave it out")
    shown = {key: fields[key] for key in fields if key in ("name", "description", "parameters", "strict")}
    if shown.get("strict", False) is None:
        del shown["strict"]
    return shown | {key: None for key in ("description", "parameters") if key not in shown}


class Tool(BaseModel):
    model_config = _STRICT

    type: str = "function"
    function: Annotated[dict[str, Any], AfterValidator(_function)]
    defer_loading: None = None


def render_prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    template_kwargs: dict[str, Any],
) -> list[int]:
    """The ids of the prompt by the tokenizer's chat template, up to where the assistant is to speak.

    Raises:
        BadRequest: there is no template, or it does not take these messages.
    """
    if not tokenizer.chat_template:
        raise BadRequest("messages: the model's tokenizer has no chat template; send input_ids")
    shown = [_for_template(index, message) for index, message in enumerate(messages)]
    if shown[-1]["role"] == "assistant":
        shown[-1] = {"role": "user", "content": shown[-1]["content"]}
    try:
        text = tokenizer.apply_chat_template(
            shown,
            tools=[tool.model_dump() for tool in tools] or None,
            add_generation_prompt=True,
            tokenize=False,
            **template_kwargs,
        )
    except (jinja2.TemplateError, TypeError) as error:
        raise BadRequest(f"messages: the chat template does not take them: {error}") from None
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def _for_template(index: int, message: Message) -> dict[str, Any]:
    """Nothing that is null, and a call's arguments as an object, which templates write as JSON themselves."""
    if message.role == "user":
        return {"role": "user", "content": message.content}
    fields = {name: value for name, value in message.model_dump().items() if value is not None}
    for at, call in enumerate(fields.get("tool_calls", [])):
        function = call["function"]
        if isinstance(function["arguments"], str):
            where = f"messages.{index}.tool_calls.{at}.function.arguments"
            function["arguments"] = _json_object(where, function["arguments"])
    return {"content": ""} | fields


def _json_object(where: str, text: str) -> dict[str, Any]:
    try:
        decoded = orjson.loads(text)
    except orjson.JSONDecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise BadRequest(f"{where}: must be a JSON object, got {text!r:.200}")
    return decoded


_OPENING = "<tool_call>\n"
_BLOCK = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)


def parse_tool_calls(text: str, names: Collection[str]) -> tuple[str, list[dict[str, Any]]]:
    """The text before the first call, and the calls in the shape of OpenAI's ``message.tool_calls``.

    A block that is not JSON and a call of a tool that is not in ``names`` are left out, of the text as well. The text
    is returned whole if there is no opened block in it, or if a block holds JSON that is no object.
    """
    start = text.find(_OPENING)
    if start < 0:
        return text, []
    found: list[Any] = []
    for block in _BLOCK.findall(text):
        try:
            parsed = json.loads(block.strip())
        except json.JSONDecodeError:
            continue
        except RecursionError:
            return text, []
        found += parsed if isinstance(parsed, list) else [parsed]
    if not all(isinstance(call, dict) for call in found):
        return text, []
    known = [call for call in found if isinstance(call.get("name"), str) and call["name"] in names]
    return text[:start].strip(), [_as_openai(index, call) for index, call in enumerate(known)]


def _as_openai(index: int, call: dict[str, Any]) -> dict[str, Any]:
    arguments = call.get("parameters") or call.get("arguments", {})
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "index": index,
        "type": "function",
        "function": {"name": call["name"], "arguments": json.dumps(arguments, ensure_ascii=False)},
    }
