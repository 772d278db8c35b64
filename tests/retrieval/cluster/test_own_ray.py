"""A server that starts Ray by itself, with everything that it can start there."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

pytest.importorskip("ray.serve", reason="needs the extra: cluster")

from slime_search.retrieval.collection import Collection, load_collection
from tests.retrieval.cluster.cluster_server import settings_of
from tests.retrieval.cluster.processes import alive, descendants, replicas
from tests.retrieval.retrieval_process import Server
from tests.retrieval.test_reranker import save_cross_encoder
from tests.support.processes import wait_until

QUERIES = ["red fox", "dog 3", "grey hen?", "nothing of this", "blue"]


@pytest.fixture(scope="module")
def settings(
    corpus_path: Path, encoder_folder: Path, index_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    return {
        "name": "e5",
        "corpus_path": corpus_path,
        "index_path": index_path,
        "model": str(encoder_folder),
        "precision": "fp32",
        "hybrid": True,
        "reranker": str(save_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))),
        "rerank_depth": 20,
    }


@pytest.fixture(scope="module")
def server(settings: dict[str, object], start_cluster_server: Callable[..., Server]) -> Server:
    server = start_cluster_server(settings, {"shards": 2})
    server.wait_until_ready()
    return server


@pytest.fixture(scope="module")
def single(settings: dict[str, object]) -> Collection:
    return load_collection(settings_of(settings), Progress(disable=True))


def expected(single: Collection, query: str, topk: int) -> list[tuple[str, float]]:
    [hits] = single.retriever.search([query], topk)
    return [(str(hit.row_index), hit.score) for hit in hits]


def found(result: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(hit["document"]["id"], hit["score"]) for hit in result]


@pytest.mark.parametrize("topk", [1, 3, 30, 60])
def test_answers_are_those_of_a_single_process(server: Server, single: Collection, topk: int) -> None:
    for query in QUERIES:
        # One at a time: beside others, the encoders' last bits may differ, and with them the order of ties.
        status, answer = server.request("/retrieve", {"queries": [query], "topk": topk, "return_scores": True})
        assert status == 200
        hits = expected(single, query, topk)
        assert [row for row, _ in found(answer["result"][0])] == [row for row, _ in hits]
        assert [score for _, score in found(answer["result"][0])] == pytest.approx([score for _, score in hits])


def test_nothing_listens_where_other_machines_reach_it(server: Server) -> None:
    """Neither Ray's own processes nor the replicas, in which Ray Serve opens a port on every interface."""
    psutil = pytest.importorskip("psutil")
    tree = psutil.Process(server.process.pid)
    listening = {
        process.pid: [socket.laddr.ip for socket in process.net_connections("inet") if socket.status == "LISTEN"]
        for process in (tree, *tree.children(recursive=True))
    }
    assert listening.keys() >= replicas(server.process.pid, "encoder")
    assert {address for found in listening.values() for address in found} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_readiness_and_metrics_follow_the_processes(server: Server) -> None:
    assert server.request("/ready")[0] == 200
    assert server.metrics()['replicas{kind="part-0"}'] == 1
    assert server.metrics()['replicas_lost_total{kind="part-0"}'] == 0
    [victim] = replicas(server.process.pid, "part-0")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: server.request("/ready")[0] == 503)
    status, answer = server.request("/ready")
    assert status == 200 or "part-0" in answer["detail"], answer
    wait_until(lambda: server.request("/ready")[0] == 200)
    assert server.metrics()['replicas{kind="part-0"}'] == 1
    assert server.metrics()['replicas_lost_total{kind="part-0"}'] == 1
    assert server.metrics()['replicas{kind="encoder"}'] == 1


def test_a_part_that_dies_comes_back(server: Server, single: Collection) -> None:
    """It is the only one, so that a query may be refused for now, but none gets a wrong answer or none at all."""
    [victim] = replicas(server.process.pid, "part-1")

    def ask(number: int) -> int:
        if number == 4:
            os.kill(victim, signal.SIGKILL)
        query = f"{QUERIES[number % len(QUERIES)]} {number}"
        status, headers, content = server.exchange("/retrieve", {"queries": [query], "return_scores": True})
        assert status == 200 or (status == 503 and headers["Retry-After"]), content
        return status

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(ask, range(24)))
    assert statuses[0] == 200
    wait_until(lambda: server.request("/retrieve", {"queries": ["red fox"]})[0] == 200)
    assert victim not in replicas(server.process.pid, "part-1")
    test_answers_are_those_of_a_single_process(server, single, 3)


def test_the_end_leaves_no_process(server: Server) -> None:
    started = descendants(server.process.pid)
    assert any(command.startswith("ray::ServeReplica") for command in started.values())
    assert any("raylet" in command for command in started.values())
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    assert server.process.stderr is not None
    assert "Traceback" not in server.process.stderr.read()
    wait_until(lambda: not alive(set(started)))
