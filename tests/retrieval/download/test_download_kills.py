"""A download that is killed loses nothing: the same call goes on, and ends with the same files."""

import multiprocessing
import random
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.retrieval.download.downloading import CORPUS, POINT, download, download_until
from tests.retrieval.download.hub_server import Hub, packed_corpus

LINES = b'{"id": "0", "contents": "one"}\n' * 20
NEVER = 10**9


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["downloading", "huggingface_hub.constants", "huggingface_hub.hf_api"])
    return context


@pytest.fixture
def full_hub(hub: Hub) -> Hub:
    hub.repos[CORPUS.repo] = {CORPUS.target: packed_corpus(LINES)}
    return hub


def run(processes: ForkServerContext, hub: Hub, folder: Path, deadly_event: int, block_bytes: int = 1000) -> bool:
    """Whether it ended by itself."""
    child = processes.Process(target=download_until, args=(deadly_event, hub.url, folder, block_bytes))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode == 0


def assert_complete(hub: Hub, folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        POINT.target: b"".join(hub.repos[POINT.repo].values()),
        "corpus.jsonl": LINES,
    }


def test_a_kill_at_any_step_loses_nothing(processes: ForkServerContext, full_hub: Hub, folder: Path) -> None:
    """One folder and one kill for each step: parts are renamed, fetched, copied, deleted, checked and unpacked."""
    files = {**full_hub.repos[POINT.repo], **full_hub.repos[CORPUS.repo]}
    for event in range(1, 200):
        work = folder / str(event)
        work.mkdir()
        for name in ("part_aa", "part_ac", CORPUS.target):
            (work / name).write_bytes(files[name])
        if run(processes, full_hub, work, event):
            break
        full_hub.requests.clear()
        held = held_of_second_part(work, files)
        download(work, corpus=True, block_bytes=1000)
        assert_complete(full_hub, work)
        assert full_hub.ranges == ([f"bytes={held}-999"] if held < 1000 else [])
    assert event > 20


def held_of_second_part(folder: Path, files: dict[str, bytes]) -> int:
    whole, partial = folder / POINT.target, folder / f"{POINT.target}.partial"
    if whole.exists():
        return 1000
    return min(1000, partial.stat().st_size - len(files["part_aa"])) if partial.exists() else 0


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=4),
    local=st.sets(st.integers(0, 3)),
    block_bytes=st.integers(100, 1500),
    kills=st.lists(st.integers(1, 25), max_size=3),
    seed=st.integers(),
)
def test_kills_at_random_steps_lose_nothing(
    processes: ForkServerContext,
    full_hub: Hub,
    sizes: list[int],
    local: set[int],
    block_bytes: int,
    kills: list[int],
    seed: int,
) -> None:
    parts = {f"part_a{n}": random.Random(seed + n).randbytes(size) for n, size in enumerate(sizes)}
    full_hub.repos[POINT.repo] = parts
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number in local & set(range(len(parts))):
            (folder / f"part_a{number}").write_bytes(parts[f"part_a{number}"])
        for event in kills:
            run(processes, full_hub, folder, event, block_bytes)
        download(folder, corpus=True, block_bytes=block_bytes)
        assert_complete(full_hub, folder)


def test_kills_at_random_moments_lose_nothing(processes: ForkServerContext, full_hub: Hub, folder: Path) -> None:
    full_hub.repos[POINT.repo]["part_ab"] = random.Random(0).randbytes(200_000)
    moments = random.Random(1)
    for _ in range(8):
        child = processes.Process(target=download_until, args=(NEVER, full_hub.url, folder, 2_000))
        child.start()
        child.join(moments.uniform(0, 0.4))
        child.kill()
        child.join()
    download(folder, corpus=True)
    assert_complete(full_hub, folder)
