"""OpenAI's ``/v1/completions`` as the engine of a frozen model: token ids in, text out.

Every server of that route takes a prompt of token ids: vLLM, SGLang, llama.cpp, OpenAI's own. So what a tool returned
still can't become a control token, which it could in chat messages that the server renders, and a turn can be carried
on in its middle. Few of them return ids, and the text is tokenised here: good enough for what nobody trains on.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slime_search.core.engine import Completion, ContextLimits, Finish
from slime_search.core.tokens import Tokenizer
from slime_search.engines.server_info import ServerInfo, ServerKind, ask_server
from slime_search.errors import TransientFault
from slime_search.transport.client import ServiceClient
from slime_search.transport.per_loop import SingleFlight

_FINISH = {"stop": Finish.STOP, "length": Finish.LENGTH, "abort": Finish.ABORT}
_PASSED_ON = {"temperature": "temperature", "top_p": "top_p", "stop": "stop", "sampling_seed": "seed"}
"""What the route has of SGLang's sampling parameters; stricter servers refuse a field that they do not know."""
_CLOSING = re.compile(r"</(\w+)>")


class CompletionsEngine:
    """A server of a frozen model.

    Args:
        client: the connection to it.
        url: base URL, without ``/v1``.
        tokenizer: the model's.
        model: its name there.
        token: a bearer token, if it asks for one. It travels in a header only.
    """

    def __init__(
        self, client: ServiceClient, url: str, tokenizer: Tokenizer, *, model: str, token: str | None = None
    ) -> None:
        self._client = client
        self._url = f"{url.rstrip('/')}/v1/completions"
        self._tokenizer = tokenizer
        self._model = model
        self._headers = {"Authorization": f"Bearer {token}"} if token else None
        self.server: SingleFlight[ServerInfo] = SingleFlight(
            lambda: ask_server(url, token), keeps=lambda info: info.kind is not ServerKind.UNKNOWN
        )

    async def context_limits(self) -> ContextLimits | None:
        return (await self.server.get()).limits

    async def generate(
        self, input_ids: Sequence[int], sampling_params: Mapping[str, Any], *, session_id: str | None = None
    ) -> Completion:
        """Continues ``input_ids``. The completion's ids are those of the tokenizer, not what was sampled.

        Raises:
            ServiceError: the server failed after the retries.
        """
        stop = list(sampling_params.get("stop") or ())
        payload = {
            "model": self._model,
            "prompt": list(input_ids),
            "max_tokens": sampling_params["max_new_tokens"],
            **_passed_on(sampling_params),
        }
        return await self._client.post(self._url, payload, lambda body: self._read(body, stop), self._headers)

    def _read(self, body: Any, stop: Sequence[str]) -> Completion:
        match body:
            case {"choices": [{"text": str(text), "finish_reason": str(reason)} as choice, *_]} if reason in _FINISH:
                finish = _FINISH[reason]
            case _:
                raise TransientFault(f"not an answer of /v1/completions: {str(body)[:300]}")
        if finish is Finish.STOP:
            text += _stop_left_out(text, stop, choice)
        return Completion(self._tokenizer.encode(text, add_special_tokens=False), None, finish)


def _passed_on(sampling_params: Mapping[str, Any]) -> dict[str, Any]:
    values = {there: sampling_params.get(name) for name, there in _PASSED_ON.items()}
    return {name: value for name, value in values.items() if value not in (None, [])}


def _stop_left_out(text: str, stop: Sequence[str], choice: Mapping[str, Any]) -> str:
    """The stop string that ended ``text``, which the route cuts off.

    vLLM (``stop_reason``) and SGLang (``matched_stop``) return it. Elsewhere it closes the tag that is left open;
    without one it was the end of the turn.
    """
    for reason in (choice.get("stop_reason"), choice.get("matched_stop")):
        if isinstance(reason, str) and reason in stop:
            return "" if text.endswith(reason) else reason
    open_tags = [closing for closing in stop if (tag := _CLOSING.fullmatch(closing)) and _is_open(text, tag[1])]
    return max(open_tags, key=lambda closing: text.rfind(closing.replace("/", "", 1)), default="")


def _is_open(text: str, tag: str) -> bool:
    return text.rfind(f"<{tag}>") > text.rfind(f"</{tag}>")
