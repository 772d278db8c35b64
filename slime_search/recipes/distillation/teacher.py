"""The teacher as a service: tokens in, log-probabilities out."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from slime_search.errors import ConfigError, ProtocolError, ServiceUnavailable
from slime_search.recipes.distillation.batcher import Batcher
from slime_search.recipes.distillation.config import TeacherConfig
from slime_search.recipes.distillation.prefix_cache import PrefixCache
from slime_search.recipes.distillation.probing import Offer, probe_of, probe_server
from slime_search.recipes.distillation.prompt_log_probs import Span
from slime_search.transport.client import PooledSender, ServiceClient
from slime_search.transport.per_loop import PerLoop, SingleFlight
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
        self._client = ServiceClient(SERVICE, sender, attempts=config.attempts, patience_s=config.timeout_s)
        key = config.api_key
        self._headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else None
        self._probe = probe_of(tokenizer)
        self._cache = PrefixCache(config.cache_tokens)
        self._servers = SingleFlight(self._probe_servers)

    async def ready(self) -> None:
        """Asks the servers, once, whether and how they tell log-probabilities.

        Raises:
            ConfigError: none answers, or one has another tokenizer than is thought.
            ProtocolError: one gives no log-probabilities of a prompt.
        """
        await self._servers.get()

    async def log_probs(self, span: Span) -> Scored:
        """The teacher's log-probabilities of the span's tokens.

        Raises:
            ServiceError: the teacher failed after its retries, or refused the request.
            ProtocolError: its answer is not about these tokens.
        """
        servers = await self._servers.get()
        known = self._cache.known(span)
        if len(known) == len(span.scored):
            return Scored(known, len(known))
        log_probs = known + await servers.batcher.get().submit(Span(span.token_ids, span.start + len(known)))
        self._cache.keep(span, log_probs)
        return Scored(log_probs, len(known))

    async def _probe_servers(self) -> "_Servers":
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
        return _Servers(self._client, offers, config, self._headers)


class _Servers:
    """The servers, and how they are asked, once that is known. ``batcher`` is the running loop's."""

    def __init__(
        self, client: ServiceClient, offers: dict[str, Offer], config: TeacherConfig, headers: dict[str, str] | None
    ) -> None:
        (first, *others) = offers.values()
        if any((offer.api, offer.model) != (first.api, first.model) for offer in others):
            found = ", ".join(f"{url} {offer.model or ''} as {offer.api.name}" for url, offer in offers.items())
            raise ProtocolError(f"teacher.url: the servers are not alike ({found}); name servers of one kind and model")
        self._api, self._model = first.api, first.model
        # A server that did not answer yet is taken for one like the others.
        self._replicas = Replicas(client, [url + first.api.path for url in config.urls])
        self._headers = headers
        self._size = config.batch_size if all(offer.takes_batches for offer in offers.values()) else 1
        self._concurrency = config.concurrency
        self.batcher: PerLoop[Batcher[Span, list[float]]] = PerLoop(self._new_batcher)

    def _new_batcher(self) -> Batcher[Span, list[float]]:
        return Batcher(self._send, size=self._size, concurrency=self._concurrency)

    async def _send(self, spans: Sequence[Span]) -> list[list[float]]:
        def read(body: Any) -> list[list[float]]:
            return [scores.log_probs for scores in self._api.read(body, spans)]

        return await self._replicas.post(self._api.payload(spans, self._model), read, self._headers)
