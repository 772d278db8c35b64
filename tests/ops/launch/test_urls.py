"""One rule for servers' URLs, in Python and in the scripts' shell: slashes, the path, and where a server listens."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from slime_search.config import LocalConfig
from slime_search.ops.launch.settings import LaunchSettings, host_of, port_of, server_url
from slime_search.ops.launch.thinker_searcher import ThinkerLaunchSettings
from slime_search.recipes.thinker_searcher.config import ThinkerConfig

URLS_SH = Path(__file__).parents[3] / "examples/search_r1/urls.sh"

hosts = st.sampled_from(["127.0.0.1", "localhost", "retriever.example", "[::1]", "[2001:db8::7]"])
ports = st.sampled_from(["", ":80", ":8000", ":65535"])
paths = st.sampled_from(
    ["", "/", "//", "/retrieve", "/retrieve/", "/proxy/a", "/proxy/a/retrieve/", "/retrieve/retrieve"]
)
urls = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https"]), hosts, ports, paths)


class Shell:
    """A bash that has sourced ``urls.sh``; each line that it is given is answered by one line."""

    def __init__(self) -> None:
        script = f'source {URLS_SH}; while read -r url; do u=$(server_url V "$url" /retrieve 2>&1) && '
        script += 'echo "$u $(host_of "$u") $(port_of "$u")" || echo "refused $u"; done'
        self._bash = subprocess.Popen(
            ["bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def read(self, url: str) -> str:
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(f"{url}\n")
        self._bash.stdin.flush()
        return self._bash.stdout.readline().strip()

    def close(self) -> None:
        self._bash.communicate()


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    shell = Shell()
    yield shell
    shell.close()


@given(url=urls)
def test_shell_and_python_read_a_url_alike(shell: Shell, url: str) -> None:
    read = server_url(url, "/retrieve")
    assert shell.read(url) == f"{read} {host_of(read)} {port_of(read)}"
    assert not read.endswith("/")
    assert server_url(read, "/retrieve") == read or url.endswith("/retrieve/retrieve")


@pytest.mark.parametrize("url", ["8000", "127.0.0.1:8000", "http://", "ftp://a:1", "http://:8000", "http://a:1?q=2"])
def test_shell_and_python_refuse_alike(shell: Shell, url: str) -> None:
    with pytest.raises(ValueError, match="write a URL with a host"):
        server_url(url, "/retrieve")
    assert shell.read(url).startswith("refused V: ")


@pytest.mark.parametrize(
    "url", ["http://h:8000", "http://h:8000/", "http://h:8000/retrieve", "http://h:8000/retrieve/"]
)
def test_every_variable_with_a_retrievers_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVAL_SERVER_URL", url)
    assert LaunchSettings().retrieval_server_url == "http://h:8000"
    assert LaunchSettings().training([]).environment["SLIME_SEARCH_LOCAL__SEARCH_URL"] == "http://h:8000/retrieve"
    assert LocalConfig(search_url=url).search_urls == ("http://h:8000/retrieve",)


@pytest.mark.parametrize("url", ["http://h:8001", "http://h:8001/", "http://h:8001/search", "http://h:8001/search/"])
def test_every_variable_with_a_searchers_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHER_SERVER_URL", url)
    assert ThinkerLaunchSettings().searcher_server_url == "http://h:8001"
    assert ThinkerConfig(searcher_url=url).searcher_urls == ("http://h:8001/search",)


def test_another_path_and_several_servers_are_kept() -> None:
    both = LocalConfig(search_url="http://a:1/other/, http://b:2").search_urls
    assert both == ("http://a:1/other", "http://b:2/retrieve")


def test_an_engines_url_is_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHER_ENGINE_URL", "http://h:30000/v1/")
    assert ThinkerLaunchSettings().engine_url == "http://h:30000"
    monkeypatch.setenv("SEARCHER_ENGINE_URL", "h:30000")
    with pytest.raises(ValidationError, match="searcher_engine_url"):
        ThinkerLaunchSettings()
