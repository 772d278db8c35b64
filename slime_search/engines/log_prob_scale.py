"""Whether a server's log-probabilities are those of the distribution that it samples from.

vLLM returns those before temperature and penalties unless it was started with ``--logprobs-mode processed_logprobs``,
and so does SGLang with ``SGLANG_RETURN_ORIGINAL_LOGPROB=1``. Neither says so in its answers, so it is measured: the
distance between the likeliest tokens of one prompt doubles at half the temperature, or it does not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

TEMPERATURES = (1.0, 0.5)
"""At which the likeliest tokens after one prompt are asked for."""
TOP = 5
"""How many of them."""
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

REMEDY = (
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
