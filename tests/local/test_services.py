"""Child servers start, are awaited and go, also when their parent is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slime_search.local.services import LocalService, ServiceDied
from tests.support.processes import free_port, wait_until

SERVER = """
import http.server, sys, threading, os
def leave():
    sys.stdin.buffer.read()
    os._exit(0)
if "--exit-with-parent" in sys.argv:
    threading.Thread(target=leave, daemon=True).start()
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def service(tmp_path: Path, code: str = SERVER) -> LocalService:
    port = free_port()
    return LocalService(
        "test server",
        [sys.executable, "-c", code, str(port)],
        ready_url=f"http://127.0.0.1:{port}/",
        log_path=tmp_path / "log",
    )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").exists() else True


def test_a_service_is_gone_after_its_block(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.wait_ready(timeout_s=30)
        pid = running.pid
        assert is_alive(pid)
    assert not is_alive(pid)
    assert "serving" in (tmp_path / "log").read_text()


def test_a_service_that_dies_tells_its_last_words(tmp_path: Path) -> None:
    code = "import sys; print('corpus.jsonl, line 7: not JSON'); sys.exit(3)"
    with service(tmp_path, code) as running, pytest.raises(ServiceDied, match=r"exit code 3[\s\S]*line 7: not JSON"):
        running.wait_ready(timeout_s=30)


def test_a_service_that_never_answers_is_given_up(tmp_path: Path) -> None:
    code = "import time; print('loading', flush=True); time.sleep(60)"
    with service(tmp_path, code) as running:
        with pytest.raises(ServiceDied, match=r"not ready after 1 s"):
            running.wait_ready(timeout_s=1.0)
        pid = running.pid
    assert not is_alive(pid)


def test_a_killed_parent_leaves_no_service(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from tests.local.test_services import service
with service(Path({str(tmp_path)!r})) as running:
    running.wait_ready(30)
    print(running.pid, flush=True)
    time.sleep(60)
"""
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not is_alive(child))
