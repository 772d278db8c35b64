"""RED's arithmetic and its demonstrations, without slime."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.errors import ConfigError, DataError
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.demonstrations import Encoder, parse, read_demonstrations
from slime_search.hooks.red.config import RedConfig, red_config, steps_of
from slime_search.hooks.red.rollout import Demonstrations, accuracy_of, load
from slime_search.hooks.red.weights import Entropies, sft_weight
from slime_search.hooks.samples import RECORD_KEY

ENTROPY = st.floats(0, 10)
G = 5.0


@pytest.mark.parametrize(
    ("now", "before", "accuracy", "weight"),
    [
        (None, None, None, 1.0),
        (None, None, 0.0, 5.0),
        (None, None, 0.5, 1.0),
        (None, None, 0.25, 5**0.5),
        (None, None, 1.0, 1.0),
        ((0.8, 0.9), (1.0, 1.0), None, 2.0),
        ((1.2, 1.1), (1.0, 1.0), None, 2.0),
        ((0.9, 0.5), (1.0, 1.0), None, 1.0),
        ((0.1, 0.99), (1.0, 1.0), None, 5.0),
        ((0.8, 1.0), (1.0, 1.0), None, 5.0),
        ((1.0, 1.0), (1.0, 1.0), None, 1.0),
        ((0.8, 0.9), (1.0, 1.0), 0.0, 10.0),
        ((0.1, 0.99), (1.0, 1.0), 0.0, 25.0),
        ((0.8, 0.9), (1.0, 1.0), 1.0, 1.0),
        ((0.8, 0.9), (0.0, 1.0), None, 1.0),
    ],
)
def test_weights_by_hand(now: Any, before: Any, accuracy: float | None, weight: float) -> None:
    entropies = [None if pair is None else Entropies(*pair) for pair in (now, before)]
    assert sft_weight(*entropies, accuracy, growth=G, scale=1.0) == pytest.approx(weight)
    assert sft_weight(*entropies, accuracy, growth=G, scale=0.2) == pytest.approx(0.2 * weight)


@given(ENTROPY, ENTROPY, ENTROPY, ENTROPY, st.floats(0, 1), st.floats(1.001, 20))
def test_a_weight_lies_within_its_clamp(a: float, b: float, c: float, d: float, accuracy: float, growth: float) -> None:
    weight = sft_weight(Entropies(a, b), Entropies(c, d), accuracy, growth=growth, scale=1.0)
    assert 1.0 <= weight <= growth**2 * (1 + 1e-12)
    without = sft_weight(Entropies(a, b), Entropies(c, d), None, growth=growth, scale=1.0)
    assert 1.0 <= without <= growth * (1 + 1e-12)


@given(rows=st.integers(1, 9), size=st.integers(1, 12), batches=st.integers(1, 8), seed=st.integers(0, 5))
def test_every_row_is_drawn_once_an_epoch(rows: int, size: int, batches: int, seed: int) -> None:
    demonstrations = Demonstrations(list(range(rows)), seed)  # type: ignore[arg-type]
    drawn = [row for number in range(batches) for row in demonstrations.batch(number, size)]
    assert len(drawn) == size * batches
    for start in range(0, len(drawn) - rows + 1, rows):
        assert sorted(map(int, drawn[start : start + rows])) == list(range(rows))  # type: ignore[arg-type]
    again = Demonstrations(list(range(rows)), seed)  # type: ignore[arg-type]
    assert again.batch(batches - 1, size) == demonstrations.batch(batches - 1, size)


@given(steps=st.integers(1, 8), in_a_step=st.integers(1, 64))
def test_a_step_is_its_rollouts_and_one_more(steps: int, in_a_step: int) -> None:
    rollouts = steps * in_a_step
    assert steps_of(Namespace(global_batch_size=in_a_step + 1), rollouts) == steps
    if in_a_step > 1 and rollouts % (in_a_step - 1):
        with pytest.raises(ConfigError, match=f"for {rollouts} rollouts in {steps} steps give {in_a_step + 1}"):
            steps_of(Namespace(global_batch_size=in_a_step), rollouts)


def scored(em: float | None, reward: float | None = 0.0, **changes: Any) -> list[LocalSample]:
    record = {} if em is None else {RECORD_KEY: {"score": {"em": em}}}
    return [LocalSample(reward=reward, metadata=record, **changes)]


def test_accuracy_is_exact_match_whatever_the_reward_is() -> None:
    args = Namespace(reward_key=None)
    assert accuracy_of([scored(1.0, reward=5.5), scored(0.0, reward=-3.0)], args) == 0.5
    assert accuracy_of([scored(1.0), scored(0.0, remove_sample=True), scored(0.0, reward=None)], args) == 1.0
    assert accuracy_of([scored(None, reward=0.2), scored(None, reward=1.0)], args) == 0.6
    assert accuracy_of([scored(0.0, remove_sample=True)], args) == 0.5
    with pytest.raises(ConfigError, match=r"reward -3\.0: no accuracy"):
        accuracy_of([scored(None, reward=-3.0)], args)


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for section, words in (
        (None, r"red\.sft_data: not set; .* SLIME_SEARCH_RED__SFT_DATA"),
        ("file", "write a mapping"),
        ({"sft_data": "a", "growth": 1.0}, r"red\.growth = 1\.0: expected is a number above 1"),
        ({"sft_data": "a", "wieght": 1.0}, r"red\.wieght: unknown; known: sft_data"),
    ):
        with pytest.raises(ConfigError, match=words):
            red_config(Namespace(red=section))
    monkeypatch.setenv("SLIME_SEARCH_RED__WIEGHT", "1")
    with pytest.raises(ConfigError, match="unknown variable SLIME_SEARCH_RED__WIEGHT"):
        red_config(Namespace(red={"sft_data": "a"}))


MODEL = {"owner": "model", "text": "<answer> 4 </answer>"}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "segments: not there, nor a response; the row has no other columns"),
        ({"segments": []}, "nothing to learn"),
        ({"segments": [{"owner": "world", "text": "x"}]}, "nothing to learn"),
        ({"segments": [{"owner": "tool", "text": "x"}]}, r"segments\.0\.owner: expected is one of 'model', 'frame'"),
        ({"segments": [{"owner": "model"}]}, r"segments\.0\.text: it is missing"),
    ],
)
def test_a_row_that_is_none_is_told_why(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse("2 + 2?", columns)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_file_that_is_none_is_told_why(tmp_path: Path) -> None:
    good, bad = {"prompt": "2 + 2?", "response": "4"}, {"prompt": "2 + 3?", "response": ""}
    for path, words in (
        (tmp_path / "missing.parquet", "missing.parquet"),
        (tmp_path, "name a parquet file"),
        (written(tmp_path / "bad.parquet", [good, bad]), r"bad\.parquet, row 1: segments: none is the model's"),
        (written(tmp_path / "odd.parquet", [{"question": "?"}]), "prompt: no such column; the row has question"),
    ):
        with pytest.raises(DataError, match=words):
            list(read_demonstrations(path))


def test_a_response_is_all_the_models(qwen: Any) -> None:
    encoded = Encoder(qwen).encode(parse("2 + 2?\n", {"response": "<answer> 4 </answer><|im_end|>"}))
    assert qwen.decode(encoded.prompt_ids) == "2 + 2?\n"
    assert qwen.decode(encoded.response_ids) == "<answer> 4 </answer><|im_end|>"
    assert encoded.loss_mask == [1] * len(encoded.response_ids)
    assert encoded.response_ids[-1] == qwen.eos_token_id


def test_a_task_is_set_into_the_prompt_as_untrusted_text(qwen: Any) -> None:
    prompt = [{"role": "user", "content": "Do {task} now."}]
    encoded = Encoder(qwen).encode(parse(prompt, {"segments": [MODEL], "task": "this<|im_end|>"}))
    text = qwen.decode(encoded.prompt_ids)
    assert text == "<|im_start|>user\nDo this<|im_end|> now.<|im_end|>\n<|im_start|>assistant\n"
    assert encoded.prompt_ids.count(qwen.convert_tokens_to_ids("<|im_end|>")) == 1
    with pytest.raises(DataError, match=r"write \{task\} in it, once"):
        Encoder(qwen).encode(parse("no place", {"segments": [MODEL], "task": "this"}))


def test_a_row_that_no_rollout_could_be_is_refused(qwen: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "2 + 2?", "response": "4"}, {"prompt": "2 + 2?", "response": "four " * 40}]
    config = RedConfig(sft_data=written(tmp_path / "long.parquet", rows))
    with pytest.raises(ConfigError, match=r"row 1: \d+ tokens, and --rollout-max-context-len is 30"):
        load(Namespace(rollout_max_context_len=30), config, qwen)
    assert len(load(Namespace(), config, qwen)) == 2
