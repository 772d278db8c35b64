"""slime's own training loop, told to stop: it saves the step under way, although its whole process group was told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SHIM = Path(__file__).with_name("stoppable_train.py")


def test_slimes_loop_saves_the_step_under_way(slime_home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slime_search.hooks.stoppable", str(SHIM)]
    path = os.pathsep.join([str(slime_home), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"GATE": str(tmp_path), "SLIME_HOME": str(slime_home), "PYTHONPATH": path}
    said = tmp_path / "said"
    (tmp_path / "go-0").touch()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        deadline = time.monotonic() + 120
        while not (said.exists() and "step 1" in said.read_text()):
            assert run.poll() is None and time.monotonic() < deadline, run.communicate(timeout=30)
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGTERM)
        # Long enough for Ray's processes to be gone, had they been told.
        time.sleep(1)
        (tmp_path / "go-1").touch()
        _, stderr = run.communicate(timeout=120)
    assert run.returncode == 143, stderr
    assert said.read_text().splitlines() == ["step 0", "step 1", "model 1 and waited", "data 1"]
    assert "the training has stopped; the same command goes on from there" in stderr
