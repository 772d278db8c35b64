"""What is read, and what of it is kept: lines, dumps, folders."""

import io
import math
import os
import pickle
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slime_search.errors import ConfigError, DataError
from slime_search.hooks.facts import EXECUTOR
from slime_search.records.dump_rollouts import Ids, dump_rollouts
from slime_search.records.rollout import Rollout
from slime_search.viewer.library import index_file, read_entry
from tests.viewer.viewing import failed, opened, rollout, sample, save_dump, write, wrong

PROMPT, SEARCH, FOUND, ANSWER = [1, 2], ("model", [3, 4]), ("world", [5, 6, 7]), ("model", [8])


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=8), st.booleans()), min_size=1, max_size=8))
def test_each_rollout_is_read_back_from_where_the_index_says(rows: list[tuple[int, str, bool]]) -> None:
    rollouts = [
        rollout(n, id=str(i), question=text, answer=text if right else None, reward=float(right), score={})
        for i, (n, text, right) in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "rollouts.jsonl", rollouts)
        entries = index_file(path, file=0)
        assert [read_entry(path, entry) for entry in entries] == rollouts
    assert [entry.facts.right for entry in entries] == [right for _, _, right in rows]
    assert [entry.facts for entry in entries] == [rollout.facts for rollout in rollouts]


def test_a_planners_tasks_are_no_searches(tmp_path: Path) -> None:
    one = rollout()
    task = one.runs[0].calls[0].model_copy(update={"details": {EXECUTOR: 0}})
    planner = one.runs[0].model_copy(update={"role": "planner", "calls": (task,)})
    executor = one.runs[0].model_copy(update={"role": "executor"})
    path = write(tmp_path / "rollouts.jsonl", [one.model_copy(update={"runs": (executor, planner)})])
    assert [entry.facts.searches for entry in index_file(path, file=0)] == [1]


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", [rollout(0), rollout(1)])
    path.write_bytes(path.read_bytes()[:-40])
    assert [entry.facts.id for entry in index_file(path, file=0)] == ["0"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{]\n", r"line 2: not JSON"),
        (b'{"id": "1"}\n', r"line 2: rollout.group: it is missing"),
        (b"[1]\n", r"line 2: rollout: .*keys with values"),
        (
            b'{"id":"1","group":"1","question":"q","answer":null,"ending":null,"runs":[{"segments":7}]}\n',
            r"line 2: rollout.runs\[0\]",
        ),
        (b'{"id":"1","group":"1","question":null,"answer":null,"ending":null,"runs":[]}\n', "line 2: rollout.question"),
        (
            b'{"id":"1","group":"1","question":"q","answer":42,"ending":null,"runs":[]}\n',
            "line 2: rollout.answer: .*42",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = write(tmp_path / "rollouts.jsonl", [rollout(0)])
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(DataError, match=message):
        index_file(path, file=0)


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", [rollout(0), rollout(1)])
    library = opened(path, spool=tmp_path)
    write(path, [rollout(7, question="A longer question than there was before?"), rollout(8)])
    with pytest.raises(DataError, match="changed since it was opened"):
        library.read(1)


def test_checkpoints_have_the_shortest_name_that_tells_them_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one = write(tmp_path / "a/rollouts.jsonl", [rollout(0, stage="before"), rollout(0, stage="after")])
    other = write(tmp_path / "b/rollouts.jsonl", [rollout(0, stage="after")])
    assert opened(one, spool=tmp_path).checkpoints == ["before", "after"]
    both = ["before", "a/rollouts.jsonl: after", "b/rollouts.jsonl: after"]
    assert opened(one, other, spool=tmp_path).checkpoints == both
    plain = write(tmp_path / "plain.jsonl", [rollout(0)])
    assert opened(plain, spool=tmp_path).checkpoints == ["plain.jsonl"]


def test_a_folder_is_its_files_dumps_by_number(tmp_path: Path) -> None:
    for name in ("10.pt", "9.pt", "eval_9.pt"):
        save_dump(tmp_path / name, [sample(PROMPT, [ANSWER])])
    stages = [entry.facts.stage for entry in opened(tmp_path, spool=tmp_path).entries]
    assert stages == ["rollout 9", "eval 9", "rollout 10"]


def test_dumps_may_have_a_name_before_their_number(tmp_path: Path) -> None:
    """Each data set of an evaluation counts from 0, so that equal numbers are no rollout there."""
    for name in ("run2_10.pt", "run2_9.pt", "run2_eval_9.pt"):
        save_dump(tmp_path / name, [sample(PROMPT, [ANSWER], rollout_id=0) for _ in range(2)])
    stages = [entry.facts.stage for entry in opened(tmp_path, spool=tmp_path).entries]
    assert stages == ["rollout run2_9", "eval run2_9", "eval run2_9", "rollout run2_10"]


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", [rollout(0)])
    with pytest.raises(DataError, match=r"rollouts.jsonl: named twice"):
        opened(tmp_path, path, spool=tmp_path)


@pytest.mark.parametrize(("make", "message"), [(False, "does not exist"), (True, "holds no rollouts.jsonl")])
def test_a_folder_without_rollouts_is_refused(tmp_path: Path, make: bool, message: str) -> None:
    folder = tmp_path / "none"
    if make:
        folder.mkdir()
    with pytest.raises(DataError, match=message):
        opened(folder, spool=tmp_path)


def dumped(path: Path, **options: Any) -> list[Rollout]:
    return list(dump_rollouts(path, Ids(), **options))


def test_a_dump_becomes_rollouts_with_advantages(tmp_path: Path) -> None:
    samples = [
        sample(PROMPT, [SEARCH, FOUND, ANSWER], index=0, reward=1.0),
        sample(PROMPT, [ANSWER], index=1, reward=0.0),
        sample(PROMPT, [ANSWER], index=2, reward=0.0, remove_sample=True),
        sample(PROMPT, [ANSWER], index=3, group_index=1, reward=1.0),
    ]
    first, second, removed, alone = dumped(save_dump(tmp_path / "7.pt", samples))
    (run,) = first.runs
    assert [(s.owner, s.trained, s.token_ids) for s in run.segments] == [
        ("prompt", False, (1, 2)),
        ("model", True, (3, 4)),
        ("world", False, (5, 6, 7)),
        ("model", True, (8,)),
    ]
    assert run.segments[1].tokens == ("3 ", "4 ")
    assert (first.stage, first.group, first.question, first.gold_answers) == (
        "rollout 7",
        "7/0",
        "Who made it?",
        ("name",),
    )
    # Two live rollouts of rewards 1 and 0: their standard deviation is the root of a half.
    advantage = 0.5 / math.sqrt(0.5)
    assert [one.runs[0].advantage for one in (first, second)] == pytest.approx([advantage, -advantage], abs=1e-5)
    assert [one.runs[0].advantage for one in (removed, alone)] == [0.0, 0.0]
    assert not removed.runs[0].segments[1].trained


def test_the_samples_of_one_rollout_are_one(tmp_path: Path) -> None:
    def of(role: str) -> dict[str, Any]:
        one = sample(PROMPT, [ANSWER], rollout_id=5)
        one["metadata"]["slime_search"]["role"] = role
        return one

    (one,) = dumped(save_dump(tmp_path / "7.pt", [of("executor"), of("planner")]))
    assert [run.role for run in one.runs] == ["executor", "planner"]


def test_an_evaluation_has_no_advantages_and_no_shared_ids(tmp_path: Path) -> None:
    """Each data set counts from 0."""
    path = save_dump(tmp_path / "eval_7.pt", [sample(PROMPT, [ANSWER], rollout_id=0) for _ in range(2)])
    rollouts = dumped(path)
    assert [(one.stage, one.id, one.runs[0].advantage) for one in rollouts] == [
        ("eval 7", "eval_7/0", None),
        ("eval 7", "eval_7/1", None),
    ]


def test_a_sample_of_another_generate_function_is_cut_by_its_mask(tmp_path: Path) -> None:
    foreign = sample(PROMPT, [SEARCH, FOUND, ANSWER], metadata={}, status="truncated", label=None)
    (one,) = dumped(save_dump(tmp_path / "7.pt", [foreign]))
    assert (one.ending, one.answer, one.gold_answers) == ("truncated", None, ())
    segments = one.runs[0].segments
    assert [(s.owner, s.trained) for s in segments] == [
        ("prompt", False),
        ("model", True),
        ("world", False),
        ("model", True),
    ]
    assert segments[1].log_probs == (-0.5, -0.5)


def test_a_sample_without_a_mask_is_trained_whole(tmp_path: Path) -> None:
    foreign = sample(PROMPT, [ANSWER], metadata={}, loss_mask=None, rollout_log_probs=None)
    (one,) = dumped(save_dump(tmp_path / "7.pt", [foreign]))
    assert [(s.owner, s.trained, s.log_probs) for s in one.runs[0].segments][1:] == [("model", True, None)]


def test_tensors_are_read_as_numbers(tmp_path: Path) -> None:
    one = sample(PROMPT, [ANSWER], metadata={})
    one |= {"tokens": torch.tensor(one["tokens"]), "rollout_log_probs": torch.tensor(one["rollout_log_probs"]).numpy()}
    (read,) = dumped(save_dump(tmp_path / "7.pt", [one]))
    assert read.runs[0].segments[1].token_ids == (8,)
    assert read.runs[0].segments[1].log_probs == (-0.5,)


def test_the_tokenizer_decodes(tmp_path: Path, qwen_folder: Path, qwen: Any) -> None:
    prompt, said = qwen.encode("Who made it?"), qwen.encode("<answer>")
    path = save_dump(tmp_path / "7.pt", [sample(prompt, [("model", said)])])
    library = opened(path, spool=tmp_path, tokenizer=str(qwen_folder))
    assert [segment.text for segment in library.read(0).runs[0].segments] == ["Who made it?", "<answer>"]
    with pytest.raises(DataError, match="--tokenizer nowhere"):
        opened(path, spool=tmp_path, tokenizer="nowhere/at all")


def test_rewards_that_are_dicts_want_a_key(tmp_path: Path) -> None:
    path = save_dump(tmp_path / "7.pt", [sample(PROMPT, [ANSWER], reward={"em": 1.0, "f1": 0.5})])
    with pytest.raises(DataError, match="sample 0: the reward is a dict of em, f1; name one with --reward-key"):
        dumped(path)
    assert [one.reward for one in dumped(path, reward_key="f1")] == [0.5]


def test_an_unknown_status_is_named(tmp_path: Path) -> None:
    path = save_dump(tmp_path / "7.pt", [sample(PROMPT, [ANSWER], status="paused")])
    with pytest.raises(DataError, match=r"7.pt, sample 0: status 'paused' is not one of pending,"):
        dumped(path)


@pytest.mark.parametrize("name", ["torch", "transformers"])
def test_what_dumps_need_is_named_where_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = save_dump(tmp_path / "7.pt", [sample(PROMPT, [ANSWER])])
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"{name} not installed.*pip install {name}"):
        opened(path, spool=tmp_path, tokenizer="some/folder" if name == "transformers" else None)


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.folder),))


def program() -> bytes:
    """The outside of a TorchScript file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("program/constants.pkl", b"")
    return buffer.getvalue()


def test_a_dump_that_would_run_something_is_refused(tmp_path: Path) -> None:
    path = save_dump(tmp_path / "7.pt", [sample(PROMPT, [ANSWER], train_metadata=Payload(tmp_path / "owned"))])
    with pytest.raises(DataError, match=r"holds an object of posix.mkdir, which is more than data"):
        dumped(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole file of torch.save"),
        (pickle.dumps({"samples": []}), "not a whole file of torch.save"),
        (program(), "a TorchScript program"),
    ],
)
def test_files_that_are_no_dumps_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "7.pt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        dumped(tmp_path / "7.pt")


def test_a_dump_that_is_being_written_is_left_out_and_one_of_before_is_not(tmp_path: Path) -> None:
    for step in range(3):
        save_dump(tmp_path / f"{step}.pt", [sample(PROMPT, [ANSWER])])
        os.utime(tmp_path / f"{step}.pt", (step, step))
    newest, before = (tmp_path / f"{step}.pt" for step in (2, 1))
    tear(newest, at=2)
    assert [entry.facts.id for entry in opened(tmp_path, spool=spool(tmp_path)).entries] == ["0/0", "1/0"]
    with pytest.raises(DataError, match="not a whole file"):
        opened(newest, spool=spool(tmp_path))
    tear(before, at=1)
    with pytest.raises(DataError, match=r"1\.pt: not a whole file"):
        opened(tmp_path, spool=spool(tmp_path))


def tear(path: Path, *, at: float) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    os.utime(path, (at, at))


def spool(folder: Path) -> Path:
    (folder / "spool").mkdir(exist_ok=True)
    return folder / "spool"


def test_other_files_of_torch_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "7.pt")
    with pytest.raises(DataError, match="has no list of samples"):
        dumped(tmp_path / "7.pt")


def test_a_sample_that_disagrees_with_itself_is_named(tmp_path: Path) -> None:
    path = save_dump(tmp_path / "7.pt", [sample(PROMPT, [ANSWER], index=4, metadata={}, loss_mask=[1, 1])])
    with pytest.raises(DataError, match="sample 4: response_length is 1, but loss_mask has 2"):
        dumped(path)


def test_the_list_knows_right_wrong_and_failed(tmp_path: Path) -> None:
    entries = opened(write(tmp_path / "r.jsonl", [rollout(0), wrong(1), failed(2)]), spool=tmp_path).entries
    assert [(entry.facts.right, entry.facts.ending, entry.facts.searches) for entry in entries] == [
        (True, "answered", 1),
        (False, "answered", 1),
        (None, "failed", 0),
    ]
