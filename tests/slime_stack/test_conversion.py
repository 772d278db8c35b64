"""slime's own RolloutManager, from questions to what each data-parallel rank trains on."""

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.slime_stack.sample_training import listening
from tests.slime_stack.world import World
from tests.support.loopback import status
from tests.support.policies import question_number
from tests.support.rollouts import PROMPT

QUESTIONS = [0, 1, 2, 6, 7, 8]
SAMPLES = 4
FAILING_SEARCH, FAILING_ENGINE = (1, 6), 7
FLAGS = (
    f"--rollout-batch-size {len(QUESTIONS)} --n-samples-per-prompt {SAMPLES} "
    f"--global-batch-size {len(QUESTIONS) * SAMPLES} --use-dynamic-batch-size --max-tokens-per-gpu 1024 "
)
TWO_RANKS = {"dp_size": 2, "cp_size": 1, "vpp_size": 1, "microbatch_group_size_per_vp_stage": 1}


def manager(args: Any) -> Any:
    """slime's class without its Ray shell. Its own constructor runs, told that no engine is to be started."""
    from slime.ray.rollout import RolloutManager

    args.debug_train_only = True
    made = RolloutManager.__ray_metadata__.modified_class(args, None)
    args.debug_train_only = False
    made.set_train_parallel_config(TWO_RANKS)
    return made


def dumped_samples(path: Path) -> list[Any]:
    """The samples as slime's --save-debug-rollout-data kept them."""
    import torch
    from slime.utils.types import Sample

    return [Sample.from_dict(one) for one in torch.load(path, weights_only=False)["samples"]]


def advantages_by_hand(samples: list[Any]) -> dict[int, float]:
    groups = defaultdict(list)
    for sample in samples:
        groups[sample.group_index].append(sample)
    advantages = {}
    for group in groups.values():
        counted = [s.reward for s in group if s.status.name != "FAILED"]
        spread = statistics.stdev(counted) + 1e-6 if len(counted) > 1 else 1.0
        for s in group:
            centred = s.reward - statistics.fmean(counted or [0.0])
            advantages[s.index] = 0.0 if s.status.name == "FAILED" else centred / spread
    return advantages


def test_a_rollout_with_failures_becomes_training_data(world: World, ray: Any) -> None:
    world.retriever.script = lambda k: status(500) if question_number(k.query) in FAILING_SEARCH else None
    world.engine.script = lambda e: status(500) if question_number(e.prompt) == FAILING_ENGINE else None
    dump = world.folder / "rollout_{rollout_id}.pt"
    args = world.args(
        f"{FLAGS} --prompt-data {world.data_set(QUESTIONS)} --save-debug-rollout-data {dump}", max_failure_share=1.0
    )
    world.start(args)
    ranks = [ray.get(box.inner) for box in manager(args).generate(0)]

    samples = {s.index: s for s in dumped_samples(Path(str(dump).format(rollout_id=0)))}
    assert len(samples) == len(QUESTIONS) * SAMPLES
    failed = {i for i, s in samples.items() if s.status.name == "FAILED"}
    assert len(failed) == 3 * SAMPLES
    advantages = advantages_by_hand(list(samples.values()))
    assert any(value > 0.5 for value in advantages.values()), "the policy did not waver"

    rows = [row for rank in ranks for row in training_rows(rank)]
    assert sorted(row["sample_indices"] for row in rows) == sorted(samples)
    for row in rows:
        sample = samples[row["sample_indices"]]
        length = row["response_lengths"]
        assert length >= 1 and len(row["loss_masks"]) == len(row["rollout_log_probs"]) == length
        assert list(row["tokens"]) == sample.tokens and len(sample.tokens) > length
        assert row["rewards"] == pytest.approx(advantages[sample.index])
        assert list(row["rollout_log_probs"]) == pytest.approx(sample.rollout_log_probs)
        if sample.index in failed:
            assert sum(row["loss_masks"]) == row["rollout_mask_sums"] == row["rewards"] == 0
        else:
            assert list(row["loss_masks"]) == world.check_exact(sample).loss_mask
            assert row["rollout_mask_sums"] == sum(row["loss_masks"]) > 0
    assert all(rank["num_microbatches"] == ranks[0]["num_microbatches"] for rank in ranks)
    by_question = {n: [s for s in samples.values() if s.prompt == PROMPT.format(number=n)] for n in QUESTIONS}
    assert {s.response_length for s in by_question[FAILING_ENGINE]} == {1}


def training_rows(rank: dict[str, Any]) -> list[dict[str, Any]]:
    """One dict a sample of what a rank was given."""
    columns = ("tokens", "response_lengths", "rewards", "loss_masks", "sample_indices", "rollout_log_probs")
    values = [rank[name] for name in (*columns, "rollout_mask_sums")]
    return [dict(zip((*columns, "rollout_mask_sums"), row, strict=True)) for row in zip(*values, strict=True)]


def test_a_dumped_sample_still_tells_its_trajectory(world: World, ray: Any) -> None:
    from slime_search.hooks.samples import read_trajectory

    dump = world.folder / "rollout_{rollout_id}.pt"
    args = world.args(f"{FLAGS} --prompt-data {world.data_set(QUESTIONS)} --save-debug-rollout-data {dump}")
    world.start(args)
    manager(args).generate(0)
    for sample in dumped_samples(Path(str(dump).format(rollout_id=0))):
        trajectory = read_trajectory(sample)
        assert trajectory.token_ids == sample.tokens
        assert trajectory.response == sample.response
        assert [call.query for call in trajectory.calls] == [
            f"thing-{question_number(sample.prompt)} maker, part {n}" for n in range(len(trajectory.calls))
        ]


def test_slime_logs_what_the_agent_did(world: World, ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "--custom-rollout-log-function-path slime_search.hooks.metrics.log_rollout"
    args = world.args(f"{FLAGS} --prompt-data {world.data_set(QUESTIONS)} {ours}")
    world.start(args)
    logged = listening(monkeypatch)
    manager(args).generate(0)
    for name in ("search/em", "search/searches", "search/latency_p95", "search/drift", "rollout/response_len/mean"):
        assert name in logged
