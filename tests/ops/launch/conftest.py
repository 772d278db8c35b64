import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ops.launch.launched import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    site = Site(tmp_path)
    yield site
    site.close()
