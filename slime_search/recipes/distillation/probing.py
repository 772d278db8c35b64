"""What a teacher's server can tell, found out before anything is trained on it."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp

from slime_search.errors import ConfigError, ProtocolError, ServiceRejected, SlimeSearchError, TransientFault
from slime_search.recipes.distillation.prompt_log_probs import APIS, PromptLogProbs, Scores, Span
from slime_search.transport.client import ServiceClient

logger = logging.getLogger(__name__)

PROBE_TEXT = "Who wrote the book? I should search for it. Où est-ce, 誰が書いた? 🎉 1984"


class Probe(NamedTuple):
    """Tokens that the server is asked to score, and the text of each as it is known here; ``specials`` come last."""

    token_ids: Sequence[int]
    texts: Sequence[str]
    specials: int


def probe_of(tokenizer: Any) -> Probe:
    """Words of several languages and the special tokens, which vocabularies with common words still differ in."""
    specials = list(dict.fromkeys(i for i in tokenizer.all_special_ids if i is not None))[:8]
    ids = [*tokenizer.encode(PROBE_TEXT, add_special_tokens=False), *specials]
    return Probe(ids, [tokenizer.decode([i], skip_special_tokens=False) for i in ids], len(specials))


class Offer(NamedTuple):
    """What a server offers: a way to ask, the model's name in it, and whether one request may hold several prompts."""

    api: PromptLogProbs
    model: str | None
    takes_batches: bool


async def probe_server(
    client: ServiceClient,
    url: str,
    probe: Probe,
    *,
    api: str = "auto",
    model: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Offer:
    """Asks the server at ``url`` in each way that ``api`` allows, until it answers with log-probabilities.

    Raises:
        ServiceUnavailable: it does not answer.
        ProtocolError: it answers, and gives no log-probabilities of a prompt.
        ConfigError: its tokens are others than the tokenizer's that it is thought to have.
    """
    server = _Server(client, url, headers)
    apis = [known for known in APIS if api in ("auto", known.name)]
    offer, scores = await client.retried(url, lambda: _first_that_tells(server, probe, apis, model))
    _check_texts(url, probe, scores)
    return offer


@dataclass(frozen=True, slots=True)
class _Server:
    client: ServiceClient
    url: str
    headers: Mapping[str, str] | None

    async def ask(self, api: PromptLogProbs, spans: Sequence[Span], model: str | None) -> list[Scores]:
        payload = api.payload(spans, model, with_texts=True)
        return await self.client.attempt(self.url + api.path, payload, lambda body: api.read(body, spans), self.headers)

    async def served_model(self) -> str | None:
        """The first model of ``/v1/models``, if the server tells."""
        timeout = aiohttp.ClientTimeout(total=10)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self.headers) as session,
                session.get(f"{self.url}/v1/models") as response,
            ):
                body = json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        match body:
            case {"data": [{"id": str(name)}, *_]}:
                return name
        return None


async def _first_that_tells(
    server: _Server, probe: Probe, apis: Sequence[PromptLogProbs], model: str | None
) -> tuple[Offer, Scores]:
    """
    Raises:
        TransientFault: one failed in a way that may pass.
        ProtocolError: none is offered; it says what became of each.
    """
    span = Span(probe.token_ids, 1)
    faults: list[SlimeSearchError] = []
    for api in apis:
        name = model or (await server.served_model() if api.path.startswith("/v1") else None)
        try:
            (scores,) = await server.ask(api, [span], name)
        except (TransientFault, ServiceRejected, ProtocolError) as fault:
            faults.append(fault)
            continue
        offer = Offer(api, name, await _takes_batches(server, api, span, name))
        logger.info("teacher at %s: log-probabilities from %s (%s)", server.url, api.name, api.path)
        return offer, scores
    faults_by_api = "; ".join(f"{api.name}: {fault}" for api, fault in zip(apis, faults, strict=True))
    if any(isinstance(fault, TransientFault) for fault in faults):
        raise TransientFault(faults_by_api)
    raise ProtocolError(
        f"the teacher at {server.url} gives no log-probabilities of a prompt. Serve it with SGLang, or with vLLM, or "
        "name another teacher.url; where it complains of token ids, name its checkpoint as teacher.tokenizer. "
        f"Asked as {faults_by_api}"
    )


async def _takes_batches(server: _Server, api: PromptLogProbs, span: Span, model: str | None) -> bool:
    try:
        await server.ask(api, [span, Span(span.token_ids[:-1], 1)], model)
    except (TransientFault, ServiceRejected, ProtocolError) as error:
        logger.info("teacher at %s: one trajectory a request (%s)", server.url, error)
        return False
    return True


def _check_texts(url: str, probe: Probe, scores: Scores) -> None:
    """Most tokens must read as they do here, and all special ones; servers differ in what they show of bytes."""
    compared = [
        (here.strip(), there.strip(), index >= len(probe.texts) - probe.specials)
        for index, (here, there) in enumerate(zip(probe.texts[1:], scores.texts, strict=True), start=1)
        if isinstance(there, str) and there.strip() and not there.startswith("token_id:")
    ]
    others = [texts for texts in compared if texts[0] != texts[1]]
    if len(others) * 2 > len(compared) or any(is_special for _, _, is_special in others):
        here, there, _ = others[-1]
        raise ConfigError(
            f"teacher.tokenizer: the teacher at {url} reads as {there!r} the token that is {here!r} here. Set it to "
            "the teacher's own checkpoint; it may be left out only where the teacher has the policy's tokenizer."
        )
