"""``--attach``, in a terminal."""

import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl

import pytest

from tests.ops.launch.launched import WRAPPER, Site
from tests.support.processes import wait_until


class Terminal:
    """What a user sees and types."""

    def __init__(self) -> None:
        self._master, self.end = pty.openpty()
        ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 180, 0, 0))
        self._seen = b""

    def run(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        environment = environment | {"TERM": "xterm"}
        end = self.end
        return subprocess.Popen(
            command, env=environment, stdin=end, stdout=end, stderr=end, start_new_session=True, preexec_fn=_controlled
        )

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def text(self) -> str:
        while select.select([self._master], [], [], 0)[0]:
            self._seen += os.read(self._master, 65536)
        return self._seen.decode(errors="replace")

    def code_of(self, process: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + 60
        while process.poll() is None:
            self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)
        return process.returncode

    def close(self) -> None:
        os.close(self._master)
        os.close(self.end)


def _controlled() -> None:
    ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def clients(site: Site) -> list[str]:
    return site.tmux("list-clients", "-F", "#{client_session}").split()


def training_until_told(site: Site, *, code: int) -> str:
    wait = f"while [[ ! -e {site.folder}/stop ]]; do sleep 0.1; done"
    return site.script("train.sh", f"echo seen-on-screen; {wait}; exit {code}")


def test_the_session_is_shown_and_its_end_told_after_it(site: Site, terminal: Terminal) -> None:
    script = training_until_told(site, code=5)
    process = terminal.run([str(WRAPPER), "--attach"], site.environment | {"TRAIN_SCRIPT": script})
    wait_until(lambda: clients(site) == ["slime-search-r1"] and "seen-on-screen" in terminal.text())
    assert "is ready" not in terminal.text().replace("retriever ready at", "")
    (site.folder / "stop").touch()
    assert terminal.code_of(process) == 5
    after = terminal.text().rpartition("[exited]")[2]
    assert "is ready" in after
    assert "training ended with code 5" in after
    site.assert_nothing_is_left()


def test_who_leaves_the_session_leaves_it_running(site: Site, terminal: Terminal) -> None:
    script = training_until_told(site, code=0)
    process = terminal.run([str(WRAPPER), "--attach"], site.environment | {"TRAIN_SCRIPT": script})
    wait_until(lambda: clients(site) and "seen-on-screen" in terminal.text())
    terminal.type(b"\x02d")
    wait_until(lambda: not clients(site) and "is ready" in terminal.text().rpartition("[detached")[2])
    assert process.poll() is None
    assert site.sessions() == ["slime-search-r1"]
    (site.folder / "stop").touch()
    assert terminal.code_of(process) == 0
    site.assert_nothing_is_left()


def test_without_a_terminal_the_run_goes_on(site: Site) -> None:
    process = site.start("--attach", TRAIN_SCRIPT=site.script("train.sh", "exit 4"))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "training ended with code 4" in stderr
