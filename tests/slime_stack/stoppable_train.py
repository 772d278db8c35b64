"""slime's own train.py: its loop and a real Ray, and nothing that needs a GPU. Trainer and rollouts only tell.

What each of them did is a line in ``$GATE/said``; a rollout lasts until there is a file ``$GATE/go-<number>``.
"""

import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.slime_stack.standins import installed

GATE = Path(os.environ["GATE"])
_standins = installed()
_standins.__enter__()
exec(compile((Path(os.environ["SLIME_HOME"]) / "train.py").read_text(), "train.py", "exec"), globals())


def say(what: str) -> None:
    with (GATE / "said").open("a") as file:
        file.write(f"{what}\n")


class Rollouts:
    """In the RolloutManager's place, as an actor of Ray's."""

    def generate(self, rollout_id: int) -> int:
        say(f"step {rollout_id}")
        while not (GATE / f"go-{rollout_id}").exists():
            time.sleep(0.02)
        return rollout_id

    def save(self, rollout_id: int) -> None:
        say(f"data {rollout_id}")

    def dispose(self) -> None:
        say("disposed")


class Trainer:
    def async_train(self, rollout_id: int, _data: Any) -> Any:
        return ray.put(rollout_id)  # type: ignore[name-defined]  # noqa: F821

    def save_model(self, rollout_id: int, force_sync: bool) -> None:
        say(f"model {rollout_id}{' and waited' if force_sync else ''}")

    def update_weights(self) -> None: ...

    def clear_memory(self) -> None: ...


def parse_args() -> Namespace:
    off = ("release_train", "offload_rollout", "offload_train", "check_weight_update_equal", "use_critic")
    return Namespace(
        **dict.fromkeys(off, False),
        start_rollout_id=0,
        num_rollout=5,
        save=str(GATE),
        save_interval=100,
        eval_interval=None,
        num_critic_only_steps=0,
        rollout_global_dataset=True,
    )


def create_rollout_manager(args: Namespace, _pg: Any) -> tuple[Any, int | None]:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    return ray.remote(Rollouts).remote(), None


def configure_logger() -> None: ...


def create_placement_groups(args: Namespace) -> dict[str, None]:
    return {"rollout": None}


def create_training_models(args: Namespace, _pgs: Any, _manager: Any) -> tuple[Trainer, None]:
    return Trainer(), None


def init_tracking(args: Namespace) -> None: ...


finish_tracking = init_tracking
