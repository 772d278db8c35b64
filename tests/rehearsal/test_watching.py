from pathlib import Path

import torch
from rich.progress import Progress

from slime_search.hooks.contract import LocalSample
from slime_search.rehearsal.watching import Watch


def dump(folder: Path, name: str, reward: float) -> None:
    """As slime writes one, of samples that another generate function made."""
    sample = LocalSample(prompt="Who?", tokens=[1, 2, 3], response_length=1, reward=reward, loss_mask=[1])
    row = {**vars(sample), "status": sample.status.value}
    torch.save({"rollout_id": 0, "samples": [row]}, folder / f"{name}.pt")


def test_the_bar_moves_with_each_dump_and_reads_none_that_may_be_half_written(tmp_path: Path) -> None:
    with Progress(disable=True) as progress:
        watch = Watch(tmp_path, progress, steps=4)
        (task,) = progress.tasks

        def shown() -> tuple[float, str]:
            watch()
            return task.completed, task.fields["note"]

        assert shown() == (0, "slime is starting; it has a log of its own")
        dump(tmp_path, "eval_0", 0.9)
        assert shown()[0] == 0
        (tmp_path / "0.pt").write_bytes(b"half")
        assert shown() == (1, "")
        dump(tmp_path, "0", 0.25)
        (tmp_path / "1.pt").write_bytes(b"half")
        assert shown() == (2, "reward 0.25")
        dump(tmp_path, "1", 0.75)
        dump(tmp_path, "eval_1", 0.9)
        dump(tmp_path, "2", 1.0)
        dump(tmp_path, "3", 1.0)
        assert shown() == (4, "reward 1.00")
