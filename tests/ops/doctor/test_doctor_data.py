"""Questions, labels and lengths."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.data.prompts import write_parquet
from slime_search.errors import DataError
from slime_search.evaluation.questions import read_question_set
from slime_search.ops.doctor import data
from slime_search.ops.doctor.data import _SAMPLE, Prompts, columns_of
from slime_search.ops.doctor.examine import carry_out
from slime_search.ops.doctor.results import Result, Status
from tests.ops.doctor.doctor_site import Site, save_weights, statuses, the


def look(site: Site) -> list[Result]:
    setup = site.setup()
    return [result for check in data.CHECKS for result in carry_out(check, setup)]


def rewrite(path: Path, **columns: Any) -> None:
    """Puts these values into every row."""
    write_parquet(path, [row | columns for row in pq.read_table(path).to_pylist()])


def test_files_of_prepare_data(site: Site) -> None:
    found = look(site)
    assert statuses(found) == {
        "train data": Status.PASS,
        "train prompts": Status.PASS,
        "test data nq": Status.PASS,
        "test nq prompts": Status.PASS,
        "context": Status.PASS,
    }
    assert "9 questions, each with gold answers" in the(found, "train data").found


def test_files_for_tool_calls(site: Site) -> None:
    site.for_tools()
    found = look(site)
    assert the(found, "train data").status is the(found, "train prompts").status is Status.PASS
    assert the(found, "test data").status is Status.SKIP


def test_lines_of_json_do_too(site: Site) -> None:
    path = site.folder / "own.jsonl"
    path.write_text(json.dumps({"prompt": "Who?", "reward_model": "Ada"}) + "\n")
    setup = site.setup()
    setup.train_data = path
    assert the(carry_out(data.files, setup), "train prompts").status is Status.PASS


def test_data_of_the_other_recipe(site: Site) -> None:
    questions = site.folder / "data"
    site.for_tools()
    site.change(DATA=questions)
    found = the(look(site), "train data")
    assert found.status is Status.FAIL
    assert "row 1: it has no 'messages'" in found.found
    assert "prepare-data --format chat" in found.fix


def test_columns_that_a_script_of_ones_own_names(site: Site) -> None:
    script = site.folder / "run.sh"
    script.write_text("DATA_ARGS=(\n    --input-key question\n    --label-key golden_answers\n)\n")
    site.change(TRAIN_SCRIPT=script)
    assert columns_of(site.setup()) == ("question", "golden_answers", None)
    assert the(look(site), "train data").status is Status.PASS


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ({"ground_truth": {"target": []}}, "row 1: label: no gold answer"),
        ("", "row 1: label: no gold answer"),
        (None, "row 1: it has no 'reward_model'"),
    ],
)
def test_labels_without_an_answer(site: Site, label: Any, told: str) -> None:
    rewrite(site.folder / "data/train.parquet", reward_model=label)
    found = the(look(site), "train data")
    assert (found.status, told in found.found) == (Status.FAIL, True), found


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({"question": None, "metadata": None}, Status.PASS),
        ({"extra_info": {"question": "who?"}, "question": None, "metadata": None}, Status.PASS),
        ({"prompt": "[{'role': 'user', 'content': 'who?'}]"}, Status.FAIL),
        ({"extra_info": "{'index': 0}"}, Status.FAIL),
    ],
)
def test_the_verdict_is_that_of_evaluate(site: Site, columns: dict[str, Any], status: Status) -> None:
    path = site.folder / "data/train.parquet"
    rewrite(path, **columns)
    assert the(look(site), "train data").status is status
    if status is Status.PASS:
        assert read_question_set(path)
    else:
        with pytest.raises(DataError, match=r"train\.parquet, row 1: "):
            read_question_set(path)


def test_a_file_that_is_none(site: Site) -> None:
    (site.folder / "data/train.parquet").write_text("not parquet")
    found = the(look(site), "train data")
    assert (found.status, "not a parquet file" in found.found) == (Status.FAIL, True)
    (site.folder / "data/train.parquet").unlink()
    assert "does not exist" in the(look(site), "train data").found


def test_prompts_that_do_not_fit(site: Site) -> None:
    path = site.folder / "data/train.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[0]["prompt"] = [{"role": "user", "content": "word " * 3000}]
    write_parquet(path, rows)
    site.change(MAX_CONTEXT_LEN=1000)
    found = the(look(site), "train prompts")
    assert (found.status, "11.1% do not fit in a context of 1,000 tokens" in found.found) == (Status.WARN, True), found
    site.change(MAX_CONTEXT_LEN=8)
    assert the(look(site), "train prompts").status is Status.FAIL


def test_a_budget_that_is_too_small_for_a_whole_trajectory(site: Site) -> None:
    site.change(MAX_CONTEXT_LEN=3000)
    found = the(look(site), "context")
    assert found.status is Status.WARN
    longest = int(found.found.partition(" take ")[2].partition(":")[0].replace(",", ""))
    prompt = int(the(look(site), "train prompts").found.partition(", ")[2].split()[0])
    assert longest == prompt + 3 * 512 + 2 * 1024
    site.change(MAX_CONTEXT_LEN=longest)
    assert the(look(site), "context").status is Status.PASS


def test_a_context_that_the_model_was_not_made_for(site: Site) -> None:
    save_weights(site.folder / "model", positions=4096)
    found = the(look(site), "context")
    assert (found.status, found.fix) == (Status.FAIL, "export MAX_CONTEXT_LEN=4096")


@given(st.integers(1, 5 * _SAMPLE))
def test_prompts_are_kept_from_all_over_a_file(count: int) -> None:
    prompts = Prompts()
    for number in range(count):
        prompts.add(number, number)
    steps = {after - before for before, after in zip(prompts.kept, prompts.kept[1:], strict=False)}
    assert len(steps) <= 1
    assert prompts.kept[0] == 0
    assert min(count, _SAMPLE // 2) <= len(prompts.kept) <= _SAMPLE
    assert count - prompts.kept[-1] <= max(steps, default=count)
