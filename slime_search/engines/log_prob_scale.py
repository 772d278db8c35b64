"""Whether a server's log-probabilities are those of the distribution that it samples from.

vLLM returns those before temperature and penalties unless it was started with ``--logprobs-mode processed_logprobs``,
and so does SGLang with ``SGLANG_RETURN_ORIGINAL_LOGPROB=1``. Neither says so in its answers, so it is measured: the
distance between the likeliest tokens of one prompt doubles at half the temperature, or it does not.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from slime_search.engines.server_info import ServerInfo
from slime_search.errors import ProtocolError, ServiceRejected
from slime_search.transport.per_loop import SingleFlight

TOP = 5
"""How many of the likeliest tokens are asked for."""
_LEAST_DISTANCE = 1e-3
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "temperature": (0, 1),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "min_new_tokens": (0,),
    "logit_bias": ({},),
}
"""Values at which the distribution sampled from is the model's. A temperature of 0 is greedy: nothing is sampled."""

_REMEDY = (
    "start vLLM with --logprobs-mode processed_logprobs, SGLang without SGLANG_RETURN_ORIGINAL_LOGPROB; or sample at "
    "temperature 1 without penalties; or set return_logprob to False"
)


def changes_distribution(sampling_params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the parameters that make the distribution sampled from another than the model's."""
    values = {name: sampling_params.get(name) for name in _NEUTRAL}
    return {name: value for name, value in values.items() if value is not None and value not in _NEUTRAL[name]}


def follows_temperature(at_one: Sequence[float], at_half: Sequence[float]) -> bool | None:
    """Whether log-probabilities change with the temperature.

    Args:
        at_one: of the likeliest tokens after a prompt, at temperature 1.
        at_half: of the likeliest after the same prompt at temperature 0.5.

    Returns:
        True if they are twice as far apart at half the temperature, False if they are as far apart, None if it can't
        be told: -2.13 and -2.38 become -0.70 and -1.21 where they follow it.
    """
    count = min(len(at_one), len(at_half))
    if count < 2:
        return None
    one, half = sorted(at_one)[-count:], sorted(at_half)[-count:]
    distance = one[-1] - one[0]
    if distance < _LEAST_DISTANCE:
        return None
    ratio = (half[-1] - half[0]) / distance
    if abs(ratio - 2) < 0.2:
        return True
    return False if abs(ratio - 1) < 0.1 else None


class LogProbScale:
    """What one server's log-probabilities are of, measured once, and before the first request that it matters to.

    Args:
        server: what stands there, for the message.
        likeliest: log-probabilities of the likeliest tokens after a prompt that is always the same, at a temperature;
            none where the server does not show them.
    """

    def __init__(
        self, server: SingleFlight[ServerInfo], likeliest: Callable[[float], Awaitable[Sequence[float]]]
    ) -> None:
        self._server = server
        self._likeliest = likeliest
        self._follows: SingleFlight[bool | None] = SingleFlight(self._measure)

    async def check(self, changed: Mapping[str, Any]) -> None:
        """Raises ProtocolError where what comes back is not of the distribution that these parameters make.

        Args:
            changed: what ``changes_distribution`` says of a request, not empty.
        """
        if await self._follows.get() is False:
            raise ProtocolError(
                f"{await self._server.get()} returns log-probabilities before temperature and penalties, and the run "
                f"samples with {changed}: they are not those of what was sampled. {_REMEDY}."
            )

    async def _measure(self) -> bool | None:
        try:
            return follows_temperature(await self._likeliest(1.0), await self._likeliest(0.5))
        except ServiceRejected:
            return None
