"""``/v1/chat/completions`` as an engine: token ids in where the server takes them, and always token ids out."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import aiohttp

from slime_search.core.call_markup import call_block, split_calls
from slime_search.core.engine import Completion, Finish
from slime_search.engines.chat_answer import ChatAnswer, NoTokenIds, read_chat_answer
from slime_search.errors import ProtocolError, TransientFault
from slime_search.transport.client import ServiceClient

logger = logging.getLogger(__name__)

Message = Mapping[str, Any]

_PROBE_IDS = [0] * 23
_VERSION_TIMEOUT_S = 5.0
_RENAMED = {"max_new_tokens": "max_tokens", "sampling_seed": "seed"}


class TokenIn(StrEnum):
    """What a turn's request carries: the held token ids, or messages that the server renders."""

    INPUT_IDS = "input_ids"
    MESSAGES = "messages"


class ChatEngine:
    """A server of OpenAI's chat completions that returns token ids: SGLang, vLLM, the embedded engine.

    ``conversation`` gives the engine of one trajectory. The first request asks the server whether it takes
    ``input_ids`` in the body (SGLang from July 2026 on), unless ``token_in`` says so.

    Args:
        client: the connection to it.
        url: base URL, without ``/v1``.
        decode: text of sampled ids, special tokens shown; for reading only.
        tools: the tools' schemas, as in OpenAI's API.
        model: the model's name, which some servers insist on.
        template_kwargs: for the server's chat template, such as ``{"enable_thinking": False}``.
        token_in: what to send; None finds out.
        return_logprob: ask for the log-probability of each sampled token.
        sticky: send the session id as ``X-SMG-Routing-Key``, for a router that hashes consistently.
        extra: further fields of each request body, such as ``return_routed_experts``.
    """

    def __init__(
        self,
        client: ServiceClient,
        url: str,
        *,
        decode: Callable[[Sequence[int]], str],
        tools: Sequence[Mapping[str, Any]] = (),
        model: str = "default",
        template_kwargs: Mapping[str, Any] | None = None,
        token_in: TokenIn | None = None,
        return_logprob: bool = True,
        sticky: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._client = client
        self._base_url = url.rstrip("/")
        self._url = f"{self._base_url}/v1/chat/completions"
        self._decode = decode
        self._tools = list(tools)
        self._model = model
        self._template_kwargs = dict(template_kwargs or {})
        self._token_in = token_in
        self._return_logprob = return_logprob
        self._sticky = sticky
        self._extra = dict(extra or {})
        self._probes: dict[asyncio.AbstractEventLoop, asyncio.Task[TokenIn]] = {}

    async def token_in(self) -> TokenIn:
        """What this server takes, found out once.

        Raises:
            ServiceError: it does not answer.
            ProtocolError: it returns no token ids.
        """
        if self._token_in is None:
            # All who ask while it is found out share the outcome, so that a dead server costs its retries once. None
            # of them takes it along when it is cancelled.
            loop = asyncio.get_running_loop()
            if loop not in self._probes:
                self._probes[loop] = loop.create_task(self._probe())
                self._probes[loop].add_done_callback(lambda _: self._probes.pop(loop))
            self._token_in = await asyncio.shield(self._probes[loop])
        return self._token_in

    @property
    def renders_messages(self) -> bool:
        """Whether this server is known to render conversations itself."""
        return self._token_in is TokenIn.MESSAGES

    def conversation(self, messages: Callable[[], Sequence[Message]]) -> "ChatConversation":
        """The engine of one trajectory; ``messages`` is asked for what was said so far, where the server renders it."""
        return ChatConversation(self, messages)

    async def _probe(self) -> TokenIn:
        """One token after a prompt that no template renders, to see whether the server took it."""
        hi = [{"role": "user", "content": "Hi"}]
        answer = await self._request(hi, _PROBE_IDS, {"max_tokens": 1}, None, self._parse_probe)
        took = answer.prompt_ids == _PROBE_IDS or (
            answer.prompt_ids is None and answer.prompt_tokens == len(_PROBE_IDS)
        )
        chosen = TokenIn.INPUT_IDS if took else TokenIn.MESSAGES
        logger.info("%s: sends %s, reads ids from %s", self._url, chosen, answer.source)
        if chosen is TokenIn.MESSAGES:
            if answer.prompt_ids is None:
                raise await self._no_ids("neither takes input_ids nor returns the prompt_token_ids that it rendered")
            logger.warning(
                "%s ignores input_ids, so it renders each turn anew; where it does not render the sampled tokens, the "
                "trajectory is realigned or forked. SGLang from July 2026 on takes input_ids.",
                self._url,
            )
        return chosen

    async def complete(
        self,
        input_ids: Sequence[int],
        messages: Callable[[], Sequence[Message]],
        sampling_params: Mapping[str, Any],
        session_id: str | None,
    ) -> Completion:
        """One turn; ``prompt_ids`` of the completion is set where the server rendered the prompt."""
        fields = {_RENAMED.get(k, k): v for k, v in sampling_params.items() if v is not None and v != []}
        if await self.token_in() is TokenIn.INPUT_IDS:
            # The messages only give the server its context for parsing tool calls; it renders none of them.
            answer = await self._request([{"role": "user", "content": ""}], list(input_ids), fields, session_id)
            if answer.finish is not Finish.ABORT and not _was_given(answer, list(input_ids)):
                raise ProtocolError(f"{self._url}: was sent {len(input_ids)} input_ids and conditioned on other tokens")
            prompt_ids = None
        else:
            answer = await self._request(messages(), None, fields, session_id)
            prompt_ids = answer.prompt_ids
            if prompt_ids is None and answer.token_ids:
                raise await self._no_ids("does not tell which prompt it rendered (prompt_token_ids)")
        return Completion(
            answer.token_ids, answer.log_probs, self._text(answer), answer.finish, answer.meta_info, prompt_ids
        )

    def _text(self, answer: ChatAnswer) -> str:
        """The turn as it reads. Calls in a notation of the model's own are shown as the server read them."""
        text = self._decode(answer.token_ids) if answer.token_ids else ""
        if not answer.tool_calls or any(call.error is None for call in split_calls(text)[1]):
            return text
        return answer.content + "".join(call_block(call["function"]) for call in answer.tool_calls)

    async def _request(
        self,
        messages: Sequence[Message],
        input_ids: list[int] | None,
        fields: Mapping[str, Any],
        session_id: str | None,
        parse: Callable[[Any], ChatAnswer] | None = None,
    ) -> ChatAnswer:
        payload: dict[str, Any] = {
            "model": self._model,
            "messages": list(messages),
            "logprobs": self._return_logprob,
            "return_token_ids": True,
            "return_meta_info": True,
            **self._extra,
            **fields,
        }
        if self._tools:
            payload["tools"] = self._tools
        if self._template_kwargs:
            payload["chat_template_kwargs"] = self._template_kwargs
        if input_ids is not None:
            payload["input_ids"] = input_ids
        headers = {"X-SMG-Routing-Key": session_id} if self._sticky and session_id else None
        try:
            return await self._client.post(self._url, payload, parse or self._parse, headers)
        except NoTokenIds:
            raise await self._no_ids("returns text without token ids") from None
        except ProtocolError as error:
            raise ProtocolError(f"{self._url}: {error}") from error

    def _parse(self, body: Any) -> ChatAnswer:
        return read_chat_answer(body, with_log_probs=self._return_logprob)

    def _parse_probe(self, body: Any) -> ChatAnswer:
        answer = self._parse(body)
        if answer.finish is Finish.ABORT:
            raise TransientFault("the engine aborted the request that asks what it takes")
        return answer

    async def _no_ids(self, what: str) -> ProtocolError:
        return ProtocolError(
            f"{self._base_url}{await _version(self._base_url)} {what}. Training needs the ids: serve with SGLang of "
            "July 2026 or later (it has return_token_ids), with vLLM --return-tokens-as-token-ids, or use the tag "
            "recipe, whose /generate every SGLang has."
        )


async def _version(base_url: str) -> str:
    """The server's version in brackets, if it tells: vLLM under ``/version``, SGLang under ``/server_info``."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_VERSION_TIMEOUT_S)) as session:
        for path in ("/version", "/server_info"):
            try:
                async with session.get(base_url + path) as response:
                    body = await response.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                continue
            if isinstance(body, dict) and isinstance(body.get("version"), str):
                return f" (version {body['version']})"
    return ""


def _was_given(answer: ChatAnswer, input_ids: list[int]) -> bool:
    """Whether the answer's prompt is ``input_ids``, as far as the server tells."""
    if answer.prompt_ids is not None:
        return answer.prompt_ids == input_ids
    return answer.prompt_tokens in (None, len(input_ids))


class ChatConversation:
    """One trajectory's engine, in the shape of every engine."""

    def __init__(self, engine: ChatEngine, messages: Callable[[], Sequence[Message]]) -> None:
        self._engine = engine
        self._messages = messages

    async def generate(
        self, input_ids: Sequence[int], sampling_params: Mapping[str, Any], *, session_id: str | None = None
    ) -> Completion:
        """Continues ``input_ids``, or the messages that they stand for.

        Raises:
            ServiceError: the engine failed after its retries.
            ProtocolError: the engine's answers can't be trained on.
        """
        return await self._engine.complete(input_ids, self._messages, sampling_params, session_id)
