"""A second, frozen model that slime serves beside the policy (``--sglang-config``)."""

from typing import Any

from slime_search.errors import ConfigError
from slime_search.hooks.runtime import router_url


def model_url(args: Any, name: str, *, key: str) -> str:
    """Base URL of that model's router.

    slime's own ``get_model_url`` answers an unknown name with the policy's router, and a frozen model's questions would
    go to the policy.

    Raises:
        ConfigError: slime serves no model of that name; it names the configuration's ``key``.
    """
    routers = getattr(args, "sglang_model_routers", None) or {}
    if name not in routers:
        known = f"it serves {', '.join(routers)}" if routers else "it was started without one"
        raise ConfigError(f"{key} = {name!r}: no model of slime's --sglang-config has that name; {known}")
    return router_url(*routers[name])
