"""The teacher as a service: tokens in, log-probabilities out."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from slime_search.errors import ConfigError, ProtocolError, ServiceUnavailable
from slime_search.recipes.distillation.batcher import Batcher
from slime_search.recipes.distillation.config import TeacherConfig
from slime_search.recipes.distillation.prefix_cache import PrefixCache
from slime_search.recipes.distillation.probing import Offer, probe_of, probe_server
from slime_search.recipes.distillation.prompt_log_probs import Span
from slime_search.transport.client import PooledSender, ServiceClient
from slime_search.transport.replicas import Replicas

logger = logging.getLogger(__name__)

SERVICE = "teacher"


class Scored(NamedTuple):
    """One log-probability a scored token; ``remembered`` of them were known before."""

    log_probs: list[float]
    remembered: int


class Teacher:
    """Servers of one frozen model.

    Args:
        config: where they are, and how they are asked.
        tokenizer: of the tokens that will be sent.
    """

    def __init__(self, config: TeacherConfig, tokenizer: Any) -> None:
        self._config = config
        sender = PooledSender(concurrency=2 * config.concurrency, timeout_s=config.timeout_s)
        self._client = ServiceClient(SERVICE, sender, attempts=config.attempts)
        key = config.api_key
        self._headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else None
        self._probe = probe_of(tokenizer)
        self._cache = PrefixCache(config.cache_tokens)
        self._line: _Line | None = None
        self._probing: dict[asyncio.AbstractEventLoop, asyncio.Task[_Line]] = {}

    async def ready(self) -> None:
        """Asks the servers, once, whether and how they tell log-probabilities.

        Raises:
            ConfigError: none answers, or one has another tokenizer than is thought.
            ProtocolError: one gives no log-probabilities of a prompt.
        """
        await self._ready()

    async def log_probs(self, span: Span) -> Scored:
        """The teacher's log-probabilities of the span's tokens.

        Raises:
            ServiceError: the teacher failed after its retries, or refused the request.
            ProtocolError: its answer is not about these tokens.
        """
        line = await self._ready()
        known = self._cache.known(span)
        if len(known) == len(span.scored):
            return Scored(known, len(known))
        log_probs = known + await line.batcher.submit(Span(span.token_ids, span.start + len(known)))
        self._cache.keep(span, log_probs)
        return Scored(log_probs, len(known))

    async def _ready(self) -> "_Line":
        if self._line is None:
            # As with any answer that all wait for: a dead server costs its retries once, and who is cancelled takes
            # nobody along.
            loop = asyncio.get_running_loop()
            if loop not in self._probing:
                self._probing[loop] = loop.create_task(self._find_out())
                self._probing[loop].add_done_callback(lambda _: self._probing.pop(loop))
            self._line = await asyncio.shield(self._probing[loop])
        return self._line

    async def _find_out(self) -> "_Line":
        config = self._config
        asked = (
            probe_server(self._client, url, self._probe, api=config.api, model=config.model, headers=self._headers)
            for url in config.urls
        )
        answers = await asyncio.gather(*asked, return_exceptions=True)
        offers: dict[str, Offer] = {}
        for url, answer in zip(config.urls, answers, strict=True):
            if isinstance(answer, Offer):
                offers[url] = answer
            elif isinstance(answer, ServiceUnavailable):
                logger.warning("%s", answer)
            elif isinstance(answer, BaseException):
                raise answer
        if not offers:
            raise ConfigError(
                f"teacher.url = {', '.join(config.urls)}: no teacher answers. Start one, with start_teacher_server.sh, "
                f"or name another. Last error: {answers[-1]}"
            )
        return _Line(self._client, offers, config, self._headers)


class _Line:
    """How the servers are asked, once that is known."""

    def __init__(
        self, client: ServiceClient, offers: dict[str, Offer], config: TeacherConfig, headers: dict[str, str] | None
    ) -> None:
        (first, *others) = offers.values()
        if any((offer.api, offer.model) != (first.api, first.model) for offer in others):
            told = ", ".join(f"{url} {offer.model or ''} as {offer.api.name}" for url, offer in offers.items())
            raise ProtocolError(f"teacher.url: the servers are not alike ({told}); name servers of one kind and model")
        self._api, self._model = first.api, first.model
        # A server that did not answer yet is taken for one like the others.
        self._servers = Replicas(client, [url + first.api.path for url in config.urls])
        self._headers = headers
        self._size = config.batch_size if all(offer.takes_batches for offer in offers.values()) else 1
        self._concurrency = config.concurrency
        self._batchers: WeakKeyDictionary[asyncio.AbstractEventLoop, Batcher[Span, list[float]]] = WeakKeyDictionary()

    @property
    def batcher(self) -> Batcher[Span, list[float]]:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._batchers:
            self._batchers[loop] = Batcher(self._send, size=self._size, concurrency=self._concurrency)
        return self._batchers[loop]

    async def _send(self, spans: Sequence[Span]) -> list[list[float]]:
        def read(body: Any) -> list[list[float]]:
            return [scores.log_probs for scores in self._api.read(body, spans)]

        return await self._servers.post(self._api.payload(spans, self._model), read, self._headers)
