"""What a request of a conversation carries, and which way of several is the best that is exact."""

import logging
from dataclasses import dataclass
from enum import StrEnum

from slime_search.engines.server_info import ServerInfo
from slime_search.errors import ProtocolError

logger = logging.getLogger(__name__)

HI = [{"role": "user", "content": "Hi"}]
"""The message of a question that only asks what a server takes."""


class TokenIn(StrEnum):
    """The held token ids in a chat's body, the same over ``/generate``, or messages that the server renders."""

    INPUT_IDS = "input_ids"
    GENERATE = "generate"
    MESSAGES = "messages"


@dataclass(frozen=True, slots=True)
class ChatOffer:
    """What a chat route does with a request of ids: takes them, returns the sampled ids (in ``source``), tells the
    prompt's. ``error`` says why none of that can be used."""

    takes_ids: bool = False
    returns_ids: bool = False
    tells_prompt: bool = False
    source: str = ""
    error: str | None = None

    @property
    def lacks(self) -> str:
        """What went missing on the way there or back, in words."""
        if self.error is not None:
            return f"its chat route can't be used ({self.error})"
        parts = [
            *(() if self.takes_ids else ("drops input_ids",)),
            *(() if self.returns_ids else ("returns text without the sampled token ids",)),
            *(() if self.tells_prompt else ("does not tell the prompt_token_ids that it rendered",)),
        ]
        return f"its chat route {', '.join(parts)}"


def choose(server: ServerInfo, way: TokenIn, offer: ChatOffer) -> TokenIn:
    """Logs which way to ``server`` is taken and why, and returns it."""
    match way:
        case TokenIn.INPUT_IDS:
            logger.info("%s: token ids go in the chat body, and come back in %s", server, offer.source)
        case TokenIn.GENERATE:
            logger.info("%s: %s; token ids go over /generate", server, offer.lacks)
        case TokenIn.MESSAGES:
            logger.warning(
                "%s: %s and there is no /generate, so it renders each turn anew; where it does not render the sampled "
                "tokens, the trajectory is realigned or forked. SGLang takes ids",
                server,
                offer.lacks,
            )
    return way


def refusal(server: ServerInfo, offer: ChatOffer, generate: str | None) -> ProtocolError:
    """What to raise where no way to ``server`` is exact; ``generate`` says what is wrong with ``/generate``."""
    other = f"; /generate: {generate}" if generate else ""
    if server.software == "vLLM":
        fix = (
            "Start vLLM with --enable-auto-tool-choice, the --tool-call-parser of the model and "
            "--return-tokens-as-token-ids, and set chat.model to the name that it serves"
        )
    elif server.is_router:
        fix = (
            'Let the router pass /generate on, and leave chat.token_in at "auto", which goes there where chats lose '
            "their ids; or name the engine's own address"
        )
    else:
        fix = (
            "Serve with SGLang, whose /generate takes ids in every version (its chat route from 0.5.15 on), or with "
            "vLLM --return-tokens-as-token-ids --enable-auto-tool-choice"
        )
    return ProtocolError(f"{server} can't be trained on: {offer.lacks}{other}. {fix}.")
