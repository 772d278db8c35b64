"""Lets processes on somebody else's Ray end with the server that started them, even where it was killed."""

import secrets

import ray
from ray import serve

_NAMESPACE = "slime-search"


class _Sign:
    """Ray ends it with the process that made it. It does nothing else."""


class Owner:
    """To be kept for as long as what has its ``name`` is to go on."""

    def __init__(self) -> None:
        self.name = f"owner-{secrets.token_hex(8)}"
        # Without the reference, Ray would end it at once.
        self._sign = (
            ray.remote(_Sign).options(name=self.name, namespace=_NAMESPACE, num_cpus=0, max_restarts=-1).remote()
        )


def end_with(name: str) -> None:
    """Deletes the application of the process that calls it, if the owner of that name is gone."""
    try:
        ray.get_actor(name, namespace=_NAMESPACE)
    except ValueError:
        serve.delete(serve.get_replica_context().app_name, _blocking=False)
