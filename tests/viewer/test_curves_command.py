"""``slime-search curves`` over what slime and the quickstart really write."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter
from typer.testing import CliRunner

from slime_search.cli.curves import app
from slime_search.config import SearchConfig
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.metrics import log_eval, log_rollout, rollout_metrics
from slime_search.hooks.samples import RECORD_KEY, write_back
from slime_search.rewards.search import score
from tests.support.agent_runs import OUTAGE, rollout, tool
from tests.support.policies import think_answer, think_search


def sample(qwen: Any, answer: str | None, *, source: str = "nq", index: int = 0) -> LocalSample:
    """A rewarded sample with one search; None for one whose search failed."""
    turns = (think_search("thing-7 maker"), think_answer(answer or ""))
    trajectory, _ = rollout(qwen, *turns, search=tool(OUTAGE) if answer is None else None)
    made = LocalSample(index=index, rollout_id=index, label="name-7", metadata={"data_source": source})
    write_back(None, made, trajectory, known_segments=0)
    if answer is not None:
        result = score(trajectory, ["name-7"], SEARCH_R1_TAGS, SearchConfig())
        made.metadata[RECORD_KEY]["score"], made.reward = asdict(result), result.reward
    return made


def dump(path: Path, step: int, samples: list[LocalSample]) -> None:
    """As slime's ``save_debug_rollout_data`` does it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**vars(one), "status": one.status.value} for one in samples]
    torch.save({"rollout_id": step, "samples": rows}, path)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "100"})


def rows_of(*sources: Path) -> list[list[dict[str, Any]]]:
    done = invoke(*sources, "--json")
    assert done.exit_code == 0, done.output
    return list(json.loads(done.stdout)["runs"].values())


@pytest.fixture
def dumps(qwen: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "dumps"
    right, wrong, failed = (sample(qwen, answer, index=n) for n, answer in enumerate(("name-7", "else", None)))
    dump(folder / "10.pt", 10, [right, right, wrong, failed])
    dump(folder / "9.pt", 9, [wrong])
    # Equal indices, of two data sets.
    dump(folder / "eval_9.pt", 9, [right, sample(qwen, "else", source="popqa")])
    return folder


def test_dumps_are_summed_up_as_the_run_logged_them(dumps: Path, qwen: Any) -> None:
    ((ninth, nq, popqa, tenth),) = rows_of(dumps)
    assert [(row["phase"], row["step"]) for row in (ninth, tenth)] == [("train", 9), ("train", 10)]
    assert [(row["set"], row["em"], row["n"]) for row in (nq, popqa)] == [("nq", 1.0, 1), ("popqa", 0.0, 1)]
    assert ninth["reward"] == pytest.approx(0.2)
    assert tenth["failed"] == pytest.approx(1 / 3)
    assert tenth["em"] == 0.5


def test_numbers_agree_with_the_hooks_own(dumps: Path, qwen: Any) -> None:
    samples = [sample(qwen, "name-7"), sample(qwen, "else", index=1)]
    dump(dumps / "11.pt", 11, samples)
    ((*_, last),) = rows_of(dumps)
    metrics = rollout_metrics(samples)
    assert {key: last[key] for key in ("em", "searches", "failed")} == {
        key: metrics[f"search/{key}"] for key in ("em", "searches", "failed")
    }
    assert last["response_tokens"] == sum(sum(one.loss_mask or ()) for one in samples) / 2


def test_attempts_at_one_question_count_as_one(qwen: Any, tmp_path: Path) -> None:
    """An interval of 4 x 2 attempts must not be as narrow as one of 8 questions."""
    samples = [sample(qwen, "name-7", index=n) for n in range(8)]
    for n, one in enumerate(samples):
        one.metadata["question"] = f"Who owns thing {n // 4}?"
    dump(tmp_path / "eval_0.pt", 0, samples)
    ((row,),) = rows_of(tmp_path)
    assert (row["n"], row["em"]) == (2, 1.0)


def test_dump_details_has_them_in_a_folder_of_its_own(qwen: Any, tmp_path: Path) -> None:
    dump(tmp_path / "details" / "rollout_data" / "0.pt", 0, [sample(qwen, "name-7")])
    ((row,),) = rows_of(tmp_path / "details")
    assert (row["step"], row["em"]) == (0, 1.0)


def test_dumps_may_have_a_name_before_their_number(qwen: Any, tmp_path: Path) -> None:
    for name in ("run2_7.pt", "run2_eval_7.pt"):
        dump(tmp_path / name, 7, [sample(qwen, "name-7")])
    (rows,) = rows_of(tmp_path)
    assert {(row["phase"], row["step"]) for row in rows} == {("train", 7), ("eval", 7)}


def test_samples_of_another_generate_function_tell_what_slime_knows(tmp_path: Path) -> None:
    other = LocalSample(reward=0.5, response_length=12, status=LocalSample.Status.TRUNCATED)
    dump(tmp_path / "0.pt", 0, [other])
    ((row,),) = rows_of(tmp_path)
    assert row == {
        "phase": "train",
        "step": 0,
        "n": 1,
        "response_tokens": 12.0,
        "truncated": 1.0,
        "failed": 0.0,
        "reward": 0.5,
        "rewarded": 1,
    }


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), "0.5", [1.0]])
def test_dumps_of_an_older_slime_and_rewards_that_are_missing(missing: Any, qwen: Any, tmp_path: Path) -> None:
    """October 2025's samples have no ``remove_sample``; a run that was stopped has samples without a reward."""
    samples = [sample(qwen, "name-7"), sample(qwen, "else", index=1), sample(qwen, "name-7", index=2)]
    samples[2].reward = missing
    dump(tmp_path / "0.pt", 0, samples)
    written = torch.load(tmp_path / "0.pt")
    for row in written["samples"]:
        del row["remove_sample"]
    torch.save(written, tmp_path / "0.pt")
    ((row,),) = rows_of(tmp_path)
    assert (row["reward"], row["rewarded"]) == (pytest.approx((1.0 + 0.2) / 2), 2)
    assert "1 of 3 samples have no reward" in invoke(tmp_path, "--json").stderr.replace("\n", "")


def test_rewards_that_are_dicts_need_the_key(qwen: Any, tmp_path: Path) -> None:
    one = sample(qwen, "name-7")
    one.reward = {"em": 1.0, "score": 0.25}  # type: ignore[assignment]
    dump(tmp_path / "0.pt", 0, [one])
    assert "sample 0: the reward is a dict of em, score; name one with --reward-key" in (
        invoke(tmp_path).output.replace("\n", "")
    )
    ((row,),) = json.loads(invoke(tmp_path, "--json", "--reward-key", "score").stdout)["runs"].values()
    assert row["reward"] == 0.25


@pytest.fixture
def board(qwen: Any, tmp_path: Path) -> Path:
    """Two processes' files, as slime's trainer and rollout manager leave them."""
    folder = tmp_path / "board"
    samples = [sample(qwen, "name-7"), sample(qwen, "else", index=1)]
    with SummaryWriter(str(folder)) as writer:
        for step in range(3):
            extra: dict[str, Any] = {"rollout/response_len/mean": 40.0 + step}
            log_rollout(step, None, samples, extra, 1.0)
            log_eval(step, None, {"nq": {"samples": samples}}, extra)
            for key, value in {**extra, "eval/nq": 0.75}.items():
                writer.add_scalar(key, value, step)
    with SummaryWriter(str(folder)) as writer:
        for step in range(3):
            writer.add_scalar("rollout/raw_reward", 0.5 + step / 4, step)
        # A run that was resumed.
        writer.add_scalar("rollout/raw_reward", 0.25, 1)
    return folder


def test_what_slime_logs_to_tensorboard_is_read(board: Path) -> None:
    (rows,) = rows_of(board)
    train, evaluation = ([row for row in rows if row["phase"] == phase] for phase in ("train", "eval"))
    assert [(row["step"], row["reward"], row["response_tokens"]) for row in train] == [
        (0, 0.5, 40.0),
        (1, 0.25, 41.0),
        (2, 1.0, 42.0),
    ]
    assert {(row["em"], row["searches"]) for row in train} == {(0.5, 1.0)}
    assert {(row["set"], row["em"], row["reward"]) for row in evaluation} == {("nq", 0.5, 0.75)}


def test_runs_of_different_sources_are_drawn_together(board: Path, dumps: Path, tmp_path: Path) -> None:
    image = tmp_path / "images" / "both.svg"
    done = invoke(board, dumps, "--output", image)
    assert done.exit_code == 0, done.output
    assert "board: 3 training steps, 3 evaluations" in done.output
    assert "dumps: 2 training steps, 1 evaluations" in done.output
    text = image.read_text()
    assert all(f"<!-- {label} -->" in text for label in ("board and dumps", "board", "dumps", "exact match"))


def quickstart(folder: Path, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


ROW = '{"phase": "train", "step": 1, "reward": 0.5}\n'


def test_a_quickstart_that_is_still_running_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = quickstart(tmp_path / "run", ROW, '{"phase": "train", "st')
    done = invoke(run)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_names_that_are_alike_go_on_to_the_left(tmp_path: Path) -> None:
    runs = [quickstart(tmp_path / seed / "run", ROW) for seed in ("a", "b")]
    done = invoke(*runs, "--json")
    assert list(json.loads(done.stdout)["runs"]) == ["a/run", "b/run"]


def test_json_alone_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows_of(quickstart(tmp_path / "run", ROW))
    assert not (tmp_path / "curves.png").exists()


def test_a_dump_that_is_being_written_is_left_out(dumps: Path) -> None:
    newest = dumps / "10.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    done = invoke(dumps, "--json")
    assert done.exit_code == 0 and "10.pt is still being written and left out" in done.stderr.replace("\n", "")
    (rows,) = json.loads(done.stdout)["runs"].values()
    assert {row["step"] for row in rows} == {9}


def test_sources_that_can_not_be_drawn_are_refused_by_name(tmp_path: Path, qwen: Any) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    torn = quickstart(tmp_path / "torn", ROW, "{\n", ROW)
    binary = quickstart(tmp_path / "binary")
    (binary / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    broken = tmp_path / "broken"
    dump(broken / "0.pt", 0, [sample(qwen, "name-7")])
    (broken / "0.pt").write_bytes((broken / "0.pt").read_bytes()[:200])
    good = quickstart(tmp_path / "good", ROW)
    other = tmp_path / "other"
    with SummaryWriter(str(other)) as writer:
        writer.add_scalar("loss", 1.0, 0)
    for arguments, message in [
        ([tmp_path / "nowhere"], "nowhere: does not exist"),
        ([empty], "empty: holds no metrics.jsonl"),
        ([torn], "metrics.jsonl, line 2: not JSON"),
        ([binary], "metrics.jsonl: is no UTF-8 text"),
        ([broken], "0.pt: not a whole file"),
        ([other], "none of its scalars is of a rollout or an evaluation; it has loss"),
        ([good, good], "good: named twice"),
        ([good, "--output", "x.pdf"], "--output x.pdf: name a file that ends in .png or .svg"),
        ([good, "--output", "/proc/none/x.png"], "--output /proc/none/x.png: "),
        ([quickstart(tmp_path / "nothing", '{"phase": "cold_start", "step": 1}\n')], "none of 1 rows"),
    ]:
        done = invoke(*arguments)
        assert done.exit_code == 1, done.output
        assert message in done.output.replace("\n", ""), done.output
