"""A train.py with slime's loop, whose steps a test lets go on one by one."""

import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path


def should_run_periodic_action(
    rollout_id: int, interval: int | None, num_rollout_per_epoch: int | None = None, num_rollout: int | None = None
) -> bool:
    if num_rollout is not None and rollout_id == num_rollout - 1:
        return True
    return interval is not None and (rollout_id + 1) % interval == 0


def parse_args() -> Namespace:
    parser = ArgumentParser()
    parser.add_argument("--save", type=Path)
    parser.add_argument("--num-rollout", type=int, default=4)
    parser.add_argument("--gate", type=Path, required=True)
    parser.add_argument("--fails", action="store_true")
    return parser.parse_args()


def train(args: Namespace) -> None:
    said = args.gate / "said"
    for rollout_id in range(args.num_rollout):
        with said.open("a") as file:
            file.write(f"step {rollout_id}\n")
        while not (args.gate / f"go-{rollout_id}").exists():
            time.sleep(0.02)
        if args.fails:
            raise OSError("disk full")
        if should_run_periodic_action(rollout_id, 100, None, args.num_rollout):
            waited = rollout_id == args.num_rollout - 1
            with said.open("a") as file:
                file.write(f"saved {rollout_id}{' and waited' if waited else ''}\n")
        should_run_periodic_action(rollout_id, None, None)
    with said.open("a") as file:
        file.write("done\n")


if __name__ == "__main__":
    sys.exit("started as a script, and not through the wrapper")
