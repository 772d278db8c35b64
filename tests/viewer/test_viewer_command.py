"""``slime-search view`` as a person types it."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.viewer.viewing import run_lines, sample, save_dump

VIEW = [sys.executable, "-m", "slime_search.cli", "view"]


def view(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [*VIEW, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment, check=False
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    run_lines(tmp_path)
    spool = tmp_path / "spool"
    spool.mkdir()
    command = [*VIEW, str(tmp_path), "--port", "0", "--result", "wrong"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(spool)})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"141 rollouts at (http://127\.0\.0\.1:\d+/\?result=wrong)", line)
        assert address is not None, line
        with urllib.request.urlopen(address[1], timeout=60) as answer:
            assert 'id="found">35<' in answer.read().decode()
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
    assert list(spool.iterdir()) == []


def test_it_exports_a_selection(tmp_path: Path) -> None:
    run_lines(tmp_path)
    page = tmp_path / "wrong.html"
    done = view(tmp_path, "--export", page, "--checkpoint", "before", "--result", "wrong", "--limit", 10)
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 of 35 rollouts that fit" in done.stdout
    html = page.read_text()
    assert html.count("<article") == 10
    assert "http" not in re.sub(r"http-equiv", "", html)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: does not exist"),
        (["folders"], "folders/rollouts.jsonl: Is a directory"),
        (["run", "--result", "lucky"], "filter.result: expected is one of '', 'right', 'wrong'; got 'lucky'"),
        (["run", "--text", "nowhere", "--export", "page.html"], "no rollout fits the filters; take one away"),
        (["run", "--export", "no/such/folder.html"], "--export no/such/folder.html: No such file or directory"),
        (["run", "--checkpoint", "later"], "checkpoint: 'later' is not one of before, after"),
        (["run", "--host", "203.0.113.1"], "can't listen"),
    ],
)
def test_mistakes_are_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    run_lines(tmp_path / "run")
    (tmp_path / "folders" / "rollouts.jsonl").mkdir(parents=True)
    done = view(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_dump_is_exported_without_a_tokenizer(tmp_path: Path) -> None:
    save_dump(tmp_path / "3.pt", [sample([1, 2], [("model", [8])])])
    done = view(tmp_path / "3.pt", "--export", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert ">8 </i>" in (tmp_path / "page.html").read_text()


def test_help_teaches() -> None:
    told = view("--help").stdout
    for words in ("slime-search view runs/quickstart", "--tokenizer", "ssh -L 8010:127.0.0.1:8010", "--export"):
        assert words in told
    assert max(map(len, told.splitlines())) <= 80
