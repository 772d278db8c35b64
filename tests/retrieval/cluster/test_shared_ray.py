"""Servers on a Ray cluster that was there before them and has other users."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("ray.serve", reason="needs the extra: cluster")

from slime_search.retrieval.bm25 import Bm25Index
from slime_search.retrieval.cluster.connection import of_one_machine
from tests.retrieval.bm25_reference import as_served
from tests.retrieval.cluster.processes import replicas
from tests.retrieval.retrieval_process import Server
from tests.support.processes import wait_until

HERE = Path(__file__).parent


class Ray(NamedTuple):
    address: str
    environment: dict[str, str]
    process: subprocess.Popen[str]
    neighbour: subprocess.Popen[str]

    def applications(self) -> list[str]:
        """What another user of the cluster sees."""
        assert self.neighbour.stdin is not None
        self.neighbour.stdin.write("\n")
        self.neighbour.stdin.flush()
        return self.read_applications()

    def read_applications(self) -> list[str]:
        assert self.neighbour.stdout is not None
        # Ray writes to stdout as well, when one of its processes dies.
        names: list[str] = json.loads(next(line for line in self.neighbour.stdout if line.startswith("[")))
        return names

    def replicas(self, deployment: str) -> set[int]:
        return replicas(self.process.pid, deployment)


@pytest.fixture(scope="module")
def ray() -> Iterator[Ray]:
    environment = of_one_machine()

    def start(*program: str) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, *program], subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | environment)

    with start("-m", "slime_search.retrieval.cluster.head", "16") as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with start(str(HERE / "driver.py"), address) as neighbour:
            ray = Ray(address, environment, process, neighbour)
            assert ray.read_applications() == ["neighbour"]
            yield ray


@pytest.fixture(scope="module")
def start_on_ray(ray: Ray, start_cluster_server: Callable[..., Server]) -> Callable[..., Server]:
    return lambda settings, **scale: start_cluster_server(
        {"name": "bm25"} | settings, {"ray_address": ray.address} | scale, ray.environment
    )


def test_servers_share_a_cluster_and_leave_it_as_it_was(
    ray: Ray, corpus_path: Path, texts: list[str], start_on_ray: Callable[..., Server]
) -> None:
    first = start_on_ray({"corpus_path": corpus_path}, replicas=2)
    second = start_on_ray({"corpus_path": corpus_path})
    first.wait_until_ready()
    second.wait_until_ready()
    assert len(ray.applications()) == 3
    assert len(ray.replicas("bm25")) == 3

    _lose_no_query(ray, first, texts)
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(30) == 0
    # Nobody tells the second one to end in order.
    second.process.kill()
    wait_until(lambda: ray.applications() == ["neighbour"])
    wait_until(lambda: not ray.replicas("bm25"))
    assert ray.process.poll() is None


def _lose_no_query(ray: Ray, server: Server, texts: list[str]) -> None:
    index = Bm25Index.build(texts, as_served)
    victims = iter(sorted(ray.replicas("bm25")))

    def ask(number: int) -> None:
        if number in (50, 100):
            os.kill(next(victims), signal.SIGKILL)
        status, answer = server.request("/retrieve", {"queries": [f"red fox {number % 4} {number}"], "topk": 3})
        assert status == 200, answer
        [hits] = index.search([f"red fox {number % 4} {number}"], 3)
        assert [row["id"] for row in answer["result"][0]] == [str(hit.row_index) for hit in hits]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(200)))


def test_what_a_replica_can_not_load_ends_the_start_and_the_others(
    ray: Ray, tmp_path: Path, start_on_ray: Callable[..., Server]
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"contents": "—"}\n')
    server = start_on_ray({"corpus_path": corpus})
    assert server.process.wait(60) == 1
    assert server.process.stderr is not None
    assert re.fullmatch(f"error: {corpus}: nothing to index.*right file\\?\n", server.process.stderr.read())
    wait_until(lambda: ray.applications() == ["neighbour"])


def test_who_is_told_to_end_while_it_waits_for_room_leaves_nothing(
    ray: Ray, corpus_path: Path, start_on_ray: Callable[..., Server]
) -> None:
    server = start_on_ray({"corpus_path": corpus_path}, threads=99)
    wait_until(lambda: len(ray.applications()) == 2)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert server.process.stderr is not None
    assert server.process.stderr.read() == ""
    assert ray.applications() == ["neighbour"]


def test_calls_end_in_what_the_replica_raised_or_in_unavailable(ray: Ray) -> None:
    command = [sys.executable, str(HERE / "crashing_calls.py"), ray.address]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | ray.environment, check=True)
    [outcomes] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert outcomes == {
        "pid": "int",
        "fail": "KeyError",
        "late": "TimeoutError",
        "crash": "ReplicasUnavailable",
    }


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, "refuses the token that is set here"),
        ({}, "refuses who has no token"),
    ],
)
def test_a_cluster_that_refuses_the_token_is_said_to_do_that(
    ray: Ray, corpus_path: Path, start_cluster_server: Callable[..., Server], environment: dict[str, str], told: str
) -> None:
    settings = {"name": "bm25", "corpus_path": corpus_path}
    server = start_cluster_server(settings, {"ray_address": ray.address}, environment)
    assert server.process.stderr is not None
    stderr = server.process.stderr.read()
    assert server.process.wait() == 1
    assert f"the Ray cluster at '{ray.address}' {told}; export RAY_AUTH_MODE=token" in stderr
