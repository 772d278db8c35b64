from pathlib import Path

import pytest
from hostile import hostile_run
from sample_run import Run, sample_run
from support.hostile_texts import TEXTS

from slime_search.viewer.report import write_report


def write(path: Path, run: Run, title: str) -> Path:
    write_report(path, summary=run.summary, metrics=run.metrics, trajectories=run.trajectories, title=title)
    return path


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the invented run."""
    return write(tmp_path_factory.mktemp("page") / "report.html", sample_run(), title="A run")


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with hostile texts wherever text may stand."""
    return write(tmp_path_factory.mktemp("hostile") / "report.html", hostile_run(sample_run()), title="".join(TEXTS))
