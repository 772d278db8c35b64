"""What calls end in whose replicas fail: ``crashing_calls.py ADDRESS`` says it as JSON."""

import json
import os
import sys

from rich.progress import Progress

from slime_search.retrieval.cluster.applications import Applications, Program
from slime_search.retrieval.cluster.connection import RayConnection
from slime_search.retrieval.cluster.loading import Scale
from slime_search.retrieval.cluster.remote import Processes
from slime_search.retrieval.cluster.replicas import Replica


class Failing(Replica):
    def crash(self) -> None:
        os._exit(1)

    def fail(self) -> None:
        raise KeyError("asked to fail")

    def late(self) -> None:
        raise TimeoutError("asked to be late")

    def pid(self) -> int:
        return os.getpid()


def outcome(replicas: Processes, method: str) -> str:
    try:
        return type(replicas.call(method)).__name__
    except Exception as error:  # noqa: BLE001 -- the outcome
        return type(error).__name__


if __name__ == "__main__":
    connection = RayConnection(sys.argv[1], cpus=1)
    applications = Applications(Scale(replicas=3), outlived=True)
    # As many as there are attempts: none has to wait for a process that comes back.
    replicas = applications.start({"failing": Program(Failing, (), on_gpu=False)}, Progress(disable=True))["failing"]
    sys.stdout.write(
        "\n" + json.dumps({method: outcome(replicas, method) for method in ("pid", "fail", "late", "crash")})
    )
    applications.delete()
    connection.close()
