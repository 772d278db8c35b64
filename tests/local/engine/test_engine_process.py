"""``python -m slime_search.cli serve-engine`` as a process."""

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.local.engine.engine_serving import TinyModel


@contextmanager
def _process(tiny: TinyModel, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "slime_search.cli",
        "serve-engine",
        "--model-path",
        str(tiny.folder),
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--threads", "1", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    found = re.fullmatch(r"engine ready at (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
    assert found
    return found[1]


def test_it_serves_until_a_signal_and_ends_well(qwen2: TinyModel) -> None:
    with _process(qwen2) as process:
        url = _url(process)
        body = json.dumps({"input_ids": [5], "sampling_params": {"max_new_tokens": 3, "ignore_eos": True}}).encode()
        with urllib.request.urlopen(urllib.request.Request(url + "/generate", body)) as response:
            assert len(json.load(response)["output_ids"]) == 3
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_it_ends_with_its_parent(qwen2: TinyModel) -> None:
    with _process(qwen2, "--exit-with-parent") as process:
        _url(process)
        assert process.poll() is None
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=20) == 0
