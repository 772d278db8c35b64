"""Where what is started listens, and that it is asked without the environment's proxy, which every test here sets."""

import os
import socket
from collections.abc import Iterator

import pytest

from tests.ops.launch.launched import Site
from tests.support.loopback import says
from tests.support.processes import free_port

SEARCH = """
curl --noproxy "*" -fsS -H 'Content-Type: application/json' -d '{"queries": ["title"], "topk": 1}' \
    "$SLIME_SEARCH_LOCAL__SEARCH_URL"
"""


def hosts() -> Iterator[str]:
    yield "localhost"
    yield socket.gethostname()
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return
    yield "[::1]"


@pytest.mark.parametrize("host", list(hosts()))
def test_a_retriever_listens_where_its_url_says(site: Site, host: str) -> None:
    url = f"http://{host}:{free_port()}"
    script = site.script("train.sh", f"{SEARCH}\nexit 7")
    process = site.start(TRAIN_SCRIPT=script, RETRIEVAL_SERVER_URL=f"{url}/retrieve/")
    _, stderr = process.communicate(timeout=150)
    assert process.returncode == 7, stderr
    assert f"retriever: {url} is ready" in stderr
    assert '"contents"' in site.log("training")


def test_a_host_that_has_no_address_here_is_named_before_anything_starts(site: Site) -> None:
    url = f"http://0.0.0.0:{free_port()}"
    with socket.create_server(("0.0.0.0", int(url.rpartition(":")[2]))):
        process = site.start("--dry-run", TRAIN_SCRIPT=site.script("train.sh", "true"), RETRIEVAL_SERVER_URL=url)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    port = int(url.rpartition(":")[2])
    assert f"port {port} is taken; set RETRIEVAL_SERVER_URL=http://0.0.0.0:{port + 1}" in stderr


def test_what_is_no_http_server_is_not_reachable_and_is_quoted(site: Site) -> None:
    with says(b"SSH-2.0-OpenSSH_9.2\r\n", host="127.0.0.2") as url:
        process = site.start(
            TRAIN_SCRIPT=site.script("train.sh", "true"), RETRIEVAL_SERVER_URL=url, RETRIEVAL_TIMEOUT="1"
        )
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not reachable" in stderr and "SSH-2.0" in stderr
    assert "Traceback" not in stderr


def test_the_proxy_of_these_tests_is_set(site: Site) -> None:
    assert site.environment["http_proxy"] and "no_proxy" not in site.environment
    assert "no_proxy" not in os.environ
