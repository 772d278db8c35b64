"""Downloads as the tests call them, in this process and in one that kills itself."""

import os
import signal
import sys
from pathlib import Path

from huggingface_hub import constants
from rich.progress import Progress, TaskID

from slime_search.retrieval.download.hub import Published
from slime_search.retrieval.download.plan import Step, carry_out, check_room, corpus_step, index_step

POINT = Published("owner/index", "part_*", "whole.index")
CORPUS = Published("owner/corpus", "corpus.jsonl.gz", "corpus.jsonl.gz")


def settings_of(endpoint: str) -> dict[str, str]:
    """What huggingface_hub reads from HF_ENDPOINT once, when it is imported."""
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    return {"ENDPOINT": endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": template}


def steps_of(folder: Path, *, corpus: bool = False) -> list[Step]:
    wanted = [corpus_step(CORPUS, folder) if corpus else None, index_step(POINT, folder)]
    return [step for step in wanted if step]


def download(folder: Path, *, corpus: bool = False, block_bytes: int = 300, progress: Progress | None = None) -> None:
    steps = steps_of(folder, corpus=corpus)
    check_room(steps, folder)
    carry_out(steps, progress or Progress(disable=True), block_bytes)


def download_until(deadly_event: int, endpoint: str, folder: Path, block_bytes: int) -> None:
    """Downloads in a process that kills itself at its n-th step on a file or report of progress."""
    for name, value in settings_of(endpoint).items():
        setattr(constants, name, value)
    left = deadly_event

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event: str, details: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.remove") and str(folder) in str(details[0]):
            count()

    class Counting(Progress):
        def advance(self, task_id: TaskID, advance: float = 1) -> None:
            count()
            super().advance(task_id, advance)

    sys.addaudithook(on_event)
    download(folder, corpus=True, block_bytes=block_bytes, progress=Counting(disable=True))
