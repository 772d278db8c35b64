"""A body over the limit is refused by its length or while it comes, and the client reads why."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from slime_search.retrieval.protocol import MAX_BODY_BYTES
from tests.retrieval.retrieval_process import Server

REFUSAL = {"detail": "body: larger than 128 MiB; send fewer or shorter queries a request"}
HEADERS = {"Content-Type": "application/json"}


def padded(size: int) -> Iterator[bytes]:
    """A request of ``size`` bytes."""
    head, tail = b'{"queries": ["red"], "padding": "', b'"}'
    yield head
    left = size - len(head) - len(tail)
    while left > 0:
        yield b"x" * min(left, 1 << 20)
        left -= 1 << 20
    yield tail


def connect(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)


def resident_bytes(server: Server) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


def test_a_body_that_says_its_length_is_refused_unread(server: Server) -> None:
    client = connect(server)
    client.putrequest("POST", "/retrieve")
    client.putheader("Content-Type", "application/json")
    client.putheader("Content-Length", str(MAX_BODY_BYTES + 1))
    client.endheaders(b'{"queries"')
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())) == (413, REFUSAL)
    client.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_all_of_it_reads_the_refusal(server: Server, chunked: bool) -> None:
    size = MAX_BODY_BYTES + (8 << 20)
    headers = HEADERS | ({} if chunked else {"Content-Length": str(size)})
    before = resident_bytes(server)
    client = connect(server)
    client.request("POST", "/retrieve", padded(size), headers, encode_chunked=chunked)
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())) == (413, REFUSAL)
    assert answer.headers["Connection"] == "close"
    client.close()
    if not chunked:
        assert resident_bytes(server) - before < MAX_BODY_BYTES // 4
    assert server.request("/retrieve", {"queries": ["red"]})[0] == 200


def test_a_body_without_end_is_cut_off(server: Server) -> None:
    client = connect(server)
    client.putrequest("POST", "/retrieve")
    client.putheader("Transfer-Encoding", "chunked")
    client.endheaders()
    chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(8 * (MAX_BODY_BYTES >> 20)):
            client.send(chunk)
    client.close()


def test_chunks_below_the_limit_are_one_body(server: Server) -> None:
    client = connect(server)
    for size in (60, 5_000_000):
        client.request("POST", "/retrieve", padded(size), HEADERS, encode_chunked=True)
        answer = client.getresponse()
        assert (answer.status, json.loads(answer.read())) == server.request("/retrieve", {"queries": ["red"]})
    client.close()


def test_a_client_that_asks_first_sends_no_body(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(head.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 413")
