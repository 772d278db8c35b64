"""Files that are whole or not there, through errors and kills."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slime_search.files import part_of, write_text, written_whole


def test_a_file_takes_the_place_of_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "notes.json"
    for text in ("old", "新しい"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


def test_what_is_being_written_has_another_name(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with written_whole(path) as new:
        new.write_bytes(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "rows"
    write_text(path, "old")
    with pytest.raises(error), written_whole(path) as new:
        new.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "rows"):
        pass


def test_what_a_kill_leaves_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    write_text(path, "old")
    code = (
        "import os, pathlib, signal, sys\n"
        "from slime_search.files import written_whole\n"
        "with written_whole(pathlib.Path(sys.argv[1])) as new:\n"
        "    new.write_text('a long beginning'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert part_of(path).exists()
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
