"""Lets processes on somebody else's Ray end with the server that started them, even where it was killed."""

import secrets

import ray
from ray import serve

_NAMESPACE = "slime-search"


class _Owner:
    """Ray ends it with the server that made it. It does nothing else."""


def announce() -> str:
    """Makes an owner, and says its name."""
    name = f"owner-{secrets.token_hex(8)}"
    actor = ray.remote(_Owner).options(name=name, namespace=_NAMESPACE, num_cpus=0, max_restarts=-1).remote()
    # The reference is what keeps it: without one, Ray would end it now.
    _KEPT.append(actor)
    return name


def end_with(name: str) -> None:
    """Deletes the application of the process that calls it, if the owner is gone."""
    try:
        ray.get_actor(name, namespace=_NAMESPACE)
    except ValueError:
        serve.delete(serve.get_replica_context().app_name, _blocking=False)


_KEPT: list[object] = []
