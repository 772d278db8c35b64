"""slime's options as a run will have them, as far as rollouts depend on them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from slime_search.hooks.slime_options import DEFAULTS
from slime_search.ops.doctor.settings import RunSettings

_NUMBERS: dict[str, Callable[[str], float]] = {
    "rollout_top_p": float,
    "kl_coef": float,
    "rollout_batch_size": int,
    "n_samples_per_prompt": int,
    "global_batch_size": int,
}


def read_flags(run: RunSettings, given: Sequence[str]) -> SimpleNamespace:
    """slime's arguments, those of DEFAULTS alone. ``given`` win over what the training script writes.

    A number that can't be read, as one that is a variable of the script's, counts as not given.
    """
    return SimpleNamespace(**{name: _value(run, given, name, default) for name, default in DEFAULTS.items()})


def _value(run: RunSettings, given: Sequence[str], name: str, default: Any) -> Any:
    flag = f"--{name.replace('_', '-')}"
    if default is False:
        return flag in given or run.sets(flag)
    text = _last(given, flag) or run.flag(flag)
    if text is None:
        return default
    try:
        return _NUMBERS[name](text) if name in _NUMBERS else text
    except ValueError:
        return default


def _last(words: Sequence[str], flag: str) -> str | None:
    """The value that argparse would take: of the last ``--flag VALUE`` or ``--flag=VALUE``."""
    found = None
    for word, following in pairwise([*words, ""]):
        name, is_joined, value = word.partition("=")
        if name == flag:
            found = value if is_joined else following
    return found
