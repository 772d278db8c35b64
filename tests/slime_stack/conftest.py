"""slime itself, from the checkout that SLIME_HOME names, with nothing of its rollout stack replaced."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slime_search.transport.client import close_sessions
from tests.slime_stack.standins import installed
from tests.slime_stack.world import World, passages, wavering_policy
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "search_r1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("SLIME_HOME"):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="set SLIME_HOME to a checkout of slime"))


@pytest.fixture(scope="package")
def slime_home() -> Iterator[Path]:
    """slime and the example are importable while this folder's tests run."""
    home = Path(os.environ["SLIME_HOME"]).resolve()
    assert (home / "slime" / "rollout").is_dir(), f"SLIME_HOME={home} holds no slime/rollout"
    added = [str(home), str(EXAMPLE)]
    sys.path[:0] = added
    try:
        with installed():
            yield home
    finally:
        for path in added:
            sys.path.remove(path)


@pytest.fixture
def keys(slime_home: Path, tmp_path: Path) -> Iterator[list[str]]:
    """slime's loss on one rank; the columns that its training step asks for."""
    import torch
    import torch.distributed as dist

    from tests.slime_stack.megatron_standin import megatron_installed
    from tests.slime_stack.red_training import train_keys

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    with megatron_installed(), torch._dynamo.config.patch(disable=True):
        yield train_keys(slime_home)
    dist.destroy_process_group()


@pytest.fixture(scope="package")
def ray(slime_home: Path) -> Iterator[Any]:
    """A real local Ray, whose workers find slime."""
    import ray

    path = os.pathsep.join([str(HERE.parents[1]), str(slime_home), os.environ.get("PYTHONPATH", "")])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    yield ray
    ray.shutdown()


async def _settle() -> None:
    """Ends what a stopped rollout left running on slime's loop."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await close_sessions()


@pytest.fixture
def world(slime_home: Path, qwen: Any, qwen_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Scripted servers, a data set, and slime's process-wide state as at the start of a process."""
    from slime.utils.async_utils import run
    from slime.utils.misc import SingletonMeta

    monkeypatch.setattr("slime_search.transport.retrying.pause_s", lambda patience, attempt: 0.0)
    SingletonMeta._instances.clear()
    with ScriptedEngine(qwen, wavering_policy(seed=3)) as engine, ScriptedRetriever(passages) as retriever:
        yield World(engine, retriever, qwen_folder, tmp_path, qwen)
        run(_settle())
