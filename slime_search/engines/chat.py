"""The engine of a policy that calls tools: ``/v1/chat/completions`` or ``/generate``, with token ids where it can."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from slime_search.core.engine import Completion, ContextLimits, Finish
from slime_search.engines import nucleus
from slime_search.engines.chat_answer import ChatAnswer, NoTokenIds, read_chat_answer
from slime_search.engines.log_prob_scale import TOP, LogProbScale, changes_distribution
from slime_search.engines.sglang import PROBE_IDS, ROUTED_EXPERTS, SGLangEngine
from slime_search.engines.token_in import HI, ChatOffer, TokenIn, choose, refusal
from slime_search.errors import ProtocolError, ServiceRejected, TransientFault
from slime_search.transport.client import ServiceClient
from slime_search.transport.per_loop import SingleFlight

T = TypeVar("T")
Message = Mapping[str, Any]

RENDERING_SLACK = 64
"""Tokens of context kept free where a server renders messages itself, since it may render more than is held."""
_CONTEXT = [{"role": "user", "content": "The prompt is in input_ids."}]
"""A server that takes ids still wants messages, and renders none of them. Some routers refuse an empty one."""
_OTHER_PROBE_IDS = [0] * 29
_RENAMED = {"max_new_tokens": "max_tokens", "sampling_seed": "seed"}


class ChatEngine:
    """A server of a model that calls tools and returns token ids: SGLang, alone or behind a router, vLLM.

    ``conversation`` gives the engine of one trajectory. The first request finds out what the server takes, unless
    ``token_in`` says so: ids in the chat body (SGLang from 0.5.15 on), else ids over ``/generate`` (every SGLang, also
    behind a router that drops what it does not know of a chat), else messages, whose rendering the server has to tell.

    Args:
        client: the connection to it.
        url: base URL, without ``/v1``.
        tools: the tools' schemas, as in OpenAI's API.
        model: the model's name, which some servers insist on.
        template_kwargs: for the server's chat template, such as ``{"enable_thinking": False}``.
        token_in: what to send; None finds out.
        return_logprob: ask for the log-probability of each sampled token.
        sticky: send the session id as ``X-SMG-Routing-Key``, for a router that hashes consistently.
        extra: further fields of each request body, such as ``return_routed_experts``.
        token: a bearer token, for asking what stands there; requests carry the client's.
    """

    def __init__(
        self,
        client: ServiceClient,
        url: str,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        model: str = "default",
        template_kwargs: Mapping[str, Any] | None = None,
        token_in: TokenIn | None = None,
        return_logprob: bool = True,
        sticky: bool = False,
        extra: Mapping[str, Any] | None = None,
        token: str | None = None,
    ) -> None:
        self._url = f"{url.rstrip('/')}/v1/chat/completions"
        self._generate = SGLangEngine(
            client, url, return_logprob=return_logprob, sticky=sticky, extra=extra, token=token
        )
        self.server = self._generate.server
        self._tools = list(tools)
        self._model = model
        self._template_kwargs = dict(template_kwargs or {})
        self._configured = token_in
        self._return_logprob = return_logprob
        self._sticky = sticky
        self._extra = dict(extra or {})
        self._way: SingleFlight[TokenIn] = SingleFlight(self._find_way)
        self._scale = LogProbScale(self.server, self._likeliest)

    async def token_in(self) -> TokenIn:
        """What this server takes, found out once.

        Raises:
            ServiceError: it does not answer.
            ProtocolError: no way to it is exact.
        """
        return self._configured or await self._way.get()

    @property
    def renders_messages(self) -> bool:
        """Whether this server is known to render conversations itself."""
        return (self._configured or self._way.known) is TokenIn.MESSAGES

    def conversation(self, messages: Callable[[], Sequence[Message]]) -> "ChatConversation":
        """The engine of one trajectory; ``messages`` is asked for what was said so far, where the server renders it."""
        return ChatConversation(self, messages)

    async def context_limits(self) -> ContextLimits | None:
        """The server's limits, smaller where it renders messages and so decides how long the prompt is.

        Raises:
            ServiceError: it does not answer.
            ProtocolError: no way to it is exact.
        """
        renders = await self.token_in() is TokenIn.MESSAGES
        limits = await self._generate.context_limits()
        if limits is None or not renders:
            return limits
        return ContextLimits(limits.prompt_tokens - RENDERING_SLACK, limits.total_tokens - RENDERING_SLACK)

    async def complete(
        self,
        input_ids: Sequence[int],
        messages: Callable[[], Sequence[Message]],
        sampling_params: Mapping[str, Any],
        session_id: str | None,
    ) -> Completion:
        """One turn; ``prompt_ids`` of the completion is set where the server rendered the prompt."""
        way = await self.token_in()
        if way is TokenIn.GENERATE:
            return await self._generate.generate(input_ids, sampling_params, session_id=session_id)
        if self._return_logprob and (changed := changes_distribution(sampling_params)):
            await self._scale.check(changed)
        fields = {_RENAMED.get(k, k): v for k, v in sampling_params.items() if v is not None and v != []}
        if way is TokenIn.INPUT_IDS:
            answer = await self._request(_CONTEXT, list(input_ids), fields, session_id)
            if answer.finish is not Finish.ABORT and not _was_given(answer, list(input_ids)):
                raise ProtocolError(f"{self._url}: was sent {len(input_ids)} input_ids and conditioned on other tokens")
            prompt_ids = None
        else:
            answer = await self._request(_never_empty(messages()), None, fields, session_id)
            prompt_ids = answer.prompt_ids
            if prompt_ids is None and answer.token_ids:
                raise await self._refuse(ChatOffer(returns_ids=True), None)
        if nucleus.is_asked_for(sampling_params) and answer.token_ids and not nucleus.is_told(answer.meta_info):
            if answer.finish is not Finish.ABORT:
                raise nucleus.refusal(self._url)
            return Completion([], None if answer.log_probs is None else [], answer.finish, answer.meta_info, prompt_ids)
        return Completion(answer.token_ids, answer.log_probs, answer.finish, answer.meta_info, prompt_ids)

    async def _find_way(self) -> TokenIn:
        offer = await self._probe_chat()
        if offer.takes_ids:
            return choose(await self.server.get(), TokenIn.INPUT_IDS, offer)
        try:
            await self._generate.probe()
        except (ServiceRejected, ProtocolError) as error:
            if offer.returns_ids and offer.tells_prompt:
                return choose(await self.server.get(), TokenIn.MESSAGES, offer)
            raise await self._refuse(offer, str(error)) from None
        return choose(await self.server.get(), TokenIn.GENERATE, offer)

    async def _probe_chat(self) -> ChatOffer:
        """One token after a prompt that no template renders, to see whether the chat route took it."""
        try:
            answer = await self._ask(PROBE_IDS)
            took = answer.prompt_ids == PROBE_IDS
            if answer.prompt_ids is None and answer.prompt_tokens == len(PROBE_IDS):
                # The server says the length alone, which a rendered message might have; it does not have two.
                took = (await self._ask(_OTHER_PROBE_IDS)).prompt_tokens == len(_OTHER_PROBE_IDS)
        except NoTokenIds:
            return ChatOffer()
        except (ServiceRejected, ProtocolError) as error:
            return ChatOffer(error=str(error))
        if self._extra.get(ROUTED_EXPERTS) and answer.meta_info.get("routed_experts") is None:
            return ChatOffer(error="the answer has no meta_info.routed_experts")
        return ChatOffer(
            takes_ids=took,
            returns_ids=True,
            tells_prompt=answer.prompt_ids is not None,
            source=answer.source,
        )

    async def _ask(self, ids: list[int]) -> ChatAnswer:
        def parse(body: Any) -> ChatAnswer:
            answer = self._parse(body)
            if answer.finish is Finish.ABORT:
                raise TransientFault("the engine aborted the request that asks what it takes")
            return answer

        return await self._post(HI, ids, {"max_tokens": 1}, None, parse)

    async def _likeliest(self, temperature: float) -> list[float]:
        fields = {"max_tokens": 1, "temperature": temperature, "top_logprobs": TOP}
        return await self._post(HI, None, fields, None, _top)

    async def _request(
        self,
        messages: Sequence[Message],
        input_ids: list[int] | None,
        fields: Mapping[str, Any],
        session_id: str | None,
    ) -> ChatAnswer:
        try:
            return await self._post(messages, input_ids, fields, session_id, self._parse)
        except NoTokenIds:
            raise await self._refuse(ChatOffer(), None) from None

    async def _post(
        self,
        messages: Sequence[Message],
        input_ids: list[int] | None,
        fields: Mapping[str, Any],
        session_id: str | None,
        parse: Callable[[Any], T],
    ) -> T:
        payload: dict[str, Any] = {
            "model": self._model,
            "messages": list(messages),
            "logprobs": self._return_logprob,
            # SGLang 0.5.15 knows the first of them, 0.5.18 both, vLLM the second.
            "return_prompt_token_ids": True,
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
        client = await self._generate.client()
        try:
            return await client.post(self._url, payload, parse, headers)
        except NoTokenIds:
            raise
        except ProtocolError as error:
            raise ProtocolError(f"{self._url}: {error}") from error

    def _parse(self, body: Any) -> ChatAnswer:
        return read_chat_answer(body, with_log_probs=self._return_logprob)

    async def _refuse(self, offer: ChatOffer, generate: str | None) -> ProtocolError:
        return refusal(await self.server.get(), offer, generate)


def _was_given(answer: ChatAnswer, input_ids: list[int]) -> bool:
    """Whether the answer's prompt is ``input_ids``, as far as the server tells."""
    if answer.prompt_ids is not None:
        return answer.prompt_ids == input_ids
    return answer.prompt_tokens in (None, len(input_ids))


def _never_empty(messages: Sequence[Message]) -> list[Message]:
    """``messages`` with a blank for a content of nothing: a turn that was its end token alone, an empty passage."""
    return [{**message, "content": " "} if message.get("content") == "" else message for message in messages]


def _top(body: Any) -> list[float]:
    """The log-probabilities of the likeliest first tokens, empty where the server does not show them."""
    match body:
        case {"choices": [{"logprobs": {"content": [{"top_logprobs": [*rows]}, *_]}}, *_]}:
            found = (row.get("logprob") for row in rows if isinstance(row, dict))
            return [value for value in found if isinstance(value, float | int)]
        case {"choices": [dict(), *_]}:
            return []
    raise TransientFault(f"not an answer of /v1/chat/completions: {str(body)[:300]}")


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

    async def context_limits(self) -> ContextLimits | None:
        return await self._engine.context_limits()
