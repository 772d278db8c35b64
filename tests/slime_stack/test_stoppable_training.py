"""slime's own training loop, told to stop: it saves the step under way, although its whole process group was told."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.processes import wait_until

SHIM = Path(__file__).with_name("stoppable_train.py")


def members(group: int) -> set[int]:
    """The processes of a group."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            found.update([int(entry.name)] if os.getpgid(int(entry.name)) == group else [])
    return found


def test_slimes_loop_saves_the_step_under_way(slime_home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slime_search.hooks.stoppable", str(SHIM)]
    path = os.pathsep.join([str(slime_home), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"GATE": str(tmp_path), "SLIME_HOME": str(slime_home), "PYTHONPATH": path}
    said = tmp_path / "said"
    (tmp_path / "go-0").touch()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        wait_until(lambda: run.poll() is not None or (said.exists() and "step 1" in said.read_text()))
        assert run.poll() is None, run.communicate(timeout=30)
        assert members(run.pid) == {run.pid}, "Ray's processes would be told as well"
        os.killpg(run.pid, signal.SIGTERM)
        assert run.stderr is not None
        next(line for line in run.stderr if "the step under way will be saved" in line)
        (tmp_path / "go-1").touch()
        _, stderr = run.communicate(timeout=120)
    assert run.returncode == 143, stderr
    assert said.read_text().splitlines() == ["step 0", "step 1", "model 1 and waited", "data 1"]
    assert "the training has stopped; the same command goes on from there" in stderr
