"""Applications of Ray Serve: started, waited for, and deleted."""

import contextlib
import logging
import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview
from rich.progress import Progress
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from slime_search.retrieval.cluster.loading import Scale
from slime_search.retrieval.cluster.remote import Processes, applications
from slime_search.retrieval.cluster.replicas import Owner, Replica, Surroundings
from slime_search.retrieval.cluster.watch import Watch, running
from slime_search.retrieval.collection import ProcessFacts
from slime_search.retrieval.errors import SetupError
from slime_search.transport.retrying import PROCESSES

_POLL_S = 0.2
_DELETE_S = 30
_ONGOING = 8
"""Batches that a process may have at once, so that none waits for a round trip to it."""
_FAILED = "failed to start with exception"
"""What Serve's message has before it tries again; what can't be loaded once is not worth two more attempts."""
_UPSCALE = {"upscale_delay_s": 5, "look_back_period_s": 10}
"""A rollout is a burst of searches: what takes Serve's usual half minute to grow is ready when it is over."""


class Program(NamedTuple):
    """What the processes of one application run."""

    replica: type[Replica]
    arguments: tuple[object, ...]
    """Behind the surroundings."""
    on_gpu: bool


class Applications:
    """One application for every program, each of one deployment, which scales by itself.

    Args:
        scale: how many processes each gets, and what they may use.
        outlived: whether Ray goes on without this process; what it started does not.
    """

    def __init__(self, scale: Scale, *, outlived: bool) -> None:
        self._scale = scale
        self._owner = Owner() if outlived else None
        self._prefix = f"slime-search-{secrets.token_hex(4)}"
        self._names: list[str] = []
        self._watch: Watch | None = None
        self._processes: dict[str, Processes] = {}

    def start(self, programs: Mapping[str, Program], progress: Progress) -> dict[str, Processes]:
        """Runs every program and waits until all their processes have loaded.

        Raises:
            SetupError: one can't load; the message is its own.
        """
        _start_serve()
        names = {name: f"{self._prefix}-{name}" for name in programs}
        self._names = list(names.values())
        handles = serve.run_many(
            [
                serve.RunTarget(self._deployment(name, program), name=names[name], route_prefix=None)
                for name, program in programs.items()
            ],
            wait_for_applications_running=False,
        )
        self._wait(progress)
        self._watch = watch = Watch(names)
        watch.start()
        self._processes = {
            name: Processes(handle, names[name], partial(watch.gone_for_s, name))
            for name, handle in zip(programs, handles, strict=True)
        }
        return self._processes

    def check(self) -> None:
        """Raises ReplicasUnavailable where something has no process that could answer now."""
        if self._watch is not None:
            self._watch.check()

    def facts(self) -> dict[str, ProcessFacts]:
        """What is known of the processes, by the program's name."""
        if self._watch is None:
            return {}
        return self._watch.facts({name: processes.retries for name, processes in self._processes.items()})

    def stop_watching(self) -> None:
        """To be called before Ray ends."""
        if self._watch is not None:
            self._watch.stop()

    def delete(self) -> None:
        """Ends all that was started. Where Ray has ended, that is so already."""
        end = time.monotonic() + _DELETE_S
        with contextlib.suppress(RayError, RayServeException):
            for name in self._names:
                serve.delete(name, _blocking=False)
            while time.monotonic() < end and not applications().keys().isdisjoint(self._names):
                time.sleep(_POLL_S)

    def _deployment(self, name: str, program: Program) -> Any:
        scale = self._scale
        surroundings = Surroundings(
            scale.threads, self._owner.name if self._owner else None, is_alone=self._owner is None
        )
        size: dict[str, object] = {"num_replicas": scale.replicas}
        if scale.most > scale.replicas:
            limits = AutoscalingConfig(
                min_replicas=scale.replicas, max_replicas=scale.most, target_ongoing_requests=1, **_UPSCALE
            )
            size = {"autoscaling_config": limits}
        return (
            serve.deployment(program.replica)
            .options(
                name=name,
                max_ongoing_requests=_ONGOING,
                health_check_period_s=2,
                graceful_shutdown_wait_loop_s=0.1,
                graceful_shutdown_timeout_s=5,
                ray_actor_options={"num_cpus": scale.threads, "num_gpus": scale.gpus if program.on_gpu else 0},
                **size,
            )
            .bind(surroundings, *program.arguments)
        )

    def _wait(self, progress: Progress) -> None:
        task = progress.add_task("starting the replicas", total=len(self._names) * self._scale.replicas)
        while True:
            overviews = applications()
            started = [overviews[name] for name in self._names if name in overviews]
            progress.update(task, completed=sum(map(running, started)), description=_step(started))
            if len(started) == len(self._names) and all(application.status == "RUNNING" for application in started):
                return
            for failed in started:
                if failed.status == "DEPLOY_FAILED" or any(_FAILED in message for message in _messages(failed)):
                    raise SetupError(_reason(failed))
            time.sleep(_POLL_S)


def _start_serve() -> None:
    """Uses the one that runs, if any; who starts one at the same moment is met at the next attempt."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    met = PROCESSES.policy(stop_after_attempt(5), retry=retry_if_exception_type((RayError, ValueError)))
    quiet = {"log_level": "WARNING", "enable_access_log": False}
    Retrying(**met)(serve.start, proxy_location="Disabled", logging_config=quiet)


def _messages(application: ApplicationStatusOverview) -> list[str]:
    return [deployment.message for deployment in application.deployments.values() if deployment.message]


def _step(started: list[ApplicationStatusOverview]) -> str:
    """What is going on; Serve's own words where replicas wait for room on the cluster."""
    waiting = [message.partition("\n")[0] for application in started for message in _messages(application)]
    return f"starting the replicas: {waiting[0]}" if waiting else "starting the replicas"


def _reason(application: ApplicationStatusOverview) -> str:
    """What was raised is a traceback's last line. What this package refuses says all; anything else needs the log."""
    lines = [line for message in _messages(application) for line in message.strip().splitlines()]
    last = lines[-1] if lines else application.message
    name, _, text = last.partition(": ")
    if text and name.startswith("slime_search."):
        return text
    return f"replicas: one of {', '.join(application.deployments)} did not start ({last}); see the logs of Ray Serve"
