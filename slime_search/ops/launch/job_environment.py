"""Which variables of the environment a training's workers need, and how they get there on a Ray that runs already.

The workers of a Ray that a training starts inherit its environment. Those of a cluster that runs already have the
cluster's; what slime and the hooks read is therefore sent with the job. Plain variables are the job's ``env_vars``,
which Ray lists. Secrets are left out of them: they travel as a function that every worker calls at its start, which Ray
lists by its name alone.

``training.sh`` names ``runtime_env`` in ``RAY_RUNTIME_ENV_HOOK``, where ``ray.init`` finds it.
"""

import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

HOOK = "RAY_RUNTIME_ENV_HOOK"
"""The variable that names a function which ``ray.init`` calls with its runtime environment."""

_PREFIXES = (
    *("SLIME_", "SERPER_", "WANDB_", "TENSORBOARD_", "HF_", "HUGGINGFACE_", "HUGGING_FACE_", "TRANSFORMERS_"),
    *("TOKENIZERS_", "SGLANG_", "NCCL_", "GLOO_", "NVTE_", "MEGATRON_", "TORCH_", "PYTORCH_", "SSL_CERT_"),
)
_NAMES = {
    *("PYTHONPATH", "PYTHONUNBUFFERED", "CUDA_DEVICE_MAX_CONNECTIONS", "XDG_CACHE_HOME", "REQUESTS_CA_BUNDLE"),
    *("ENABLE_ROUTING_REPLAY", "DSA_KV_FP8_QAT", "DSA_KV_FP8_QAT_BLOCK_SIZE"),
}
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
_SECRET_NAME = re.compile(r"(^|_)(TOKEN|KEY|SECRET|PASSWORD)$")
_SECRET_VALUE = re.compile(r"://[^/\s]*@")


def needed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that slime, SGLang, Megatron and the hooks read; none that belongs to one machine."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_PREFIXES) or name in _NAMES or name.lower() in _PROXIES
    }


def is_secret(name: str, value: str) -> bool:
    """Whether a variable is a key, token or password by its name, or holds a URL with one.

    >>> is_secret("HF_TOKEN", "hf_x"), is_secret("SLIME_SEARCH_MAX_OBSERVATION_TOKENS", "500")
    (True, False)
    """
    return bool(value) and bool(_SECRET_NAME.search(name.upper()) or _SECRET_VALUE.search(value))


def plain(environment: Mapping[str, str]) -> dict[str, str]:
    """What is needed and may be listed."""
    return {name: value for name, value in needed(environment).items() if not is_secret(name, value)}


def secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What is needed and must not be listed."""
    return {name: value for name, value in needed(environment).items() if is_secret(name, value)}


def runtime_env(given: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
    """Adds this process's variables to a Ray job's runtime environment. What is there already wins.

    Args:
        given: what ``ray.init`` was called with, or the job was submitted with.
    """
    found = {} if given is None else given
    found["env_vars"] = {**plain(os.environ), **(found.get("env_vars") or {})}
    hidden = secrets(os.environ)
    if hidden and "worker_process_setup_hook" not in found:
        found["worker_process_setup_hook"] = _setting(hidden)
    return found


def _setting(variables: Mapping[str, str]) -> Callable[[], None]:
    # Defined in here, so that Ray pickles it with what it closes over and lists no more than its name.
    def set_secrets() -> None:
        import os

        os.environ.update(variables)

    return set_secrets
