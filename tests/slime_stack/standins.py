"""Stand-ins for sglang and wandb, which slime imports on paths that these tests run, and does not use on them."""

import sys
import types
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ServerArgs:
    """The parallel sizes, which are all that slime reads without an engine, and what the run scripts set."""

    @staticmethod
    def add_cli_args(parser: ArgumentParser) -> None:
        for name in ("dp", "pp", "ep", "moe-dp"):
            parser.add_argument(f"--{name}-size", type=int, default=1)
        parser.add_argument("--mem-fraction-static", type=float, default=None)


class RouterArgs:
    @staticmethod
    def add_cli_args(parser: ArgumentParser, **options: Any) -> None:
        parser.add_argument("--router-policy", default=None)


MODULES: dict[str, dict[str, Any]] = {
    "sglang": {},
    "sglang.srt": {},
    "sglang.srt.constants": {f"GPU_MEMORY_TYPE_{n}": n for n in ("CUDA_GRAPH", "KV_CACHE", "WEIGHTS")},
    "sglang.srt.server_args": {"ServerArgs": ServerArgs},
    "sglang.srt.utils": {"kill_process_tree": None},
    "sglang_router": {},
    "sglang_router.launch_router": {"RouterArgs": RouterArgs},
    "wandb": {},
}


@contextmanager
def installed() -> Iterator[None]:
    """Puts the stand-ins where nothing real is; afterwards they and all of slime are forgotten."""
    made = [name for name in MODULES if name.partition(".")[0] not in sys.modules]
    for name in made:
        module = types.ModuleType(name)
        module.__path__ = []
        module.__dict__.update(MODULES[name])
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n in made or n == "slime" or n.startswith("slime.")]:
            del sys.modules[name]
