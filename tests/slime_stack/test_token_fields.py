"""What slime's conversion takes of every sample is there on each: tokens, log-probabilities, nucleus, experts.

Some rollouts are failed by a search or by the engine, some were called off before they began.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from slime_search.core.trajectory import Ending
from slime_search.hooks.samples import RECORD_KEY
from tests.slime_stack.sample_training import PROMPT, converted, listening, step_arguments, trained, written
from tests.slime_stack.test_conversion import (
    FAILING_ENGINE,
    FAILING_SEARCH,
    FLAGS,
    QUESTIONS,
    SAMPLES,
    dumped_samples,
    manager,
    training_rows,
)
from tests.slime_stack.world import World
from tests.support.loopback import status
from tests.support.policies import question_number
from tests.support.told_tokens import (
    EXPERTS,
    LAYERS,
    REPLAY,
    TOP_P,
    TOPK,
    experts_of,
    held_nuclei,
    nucleus_of,
    told_of,
)

BOTH = "--rollout-top-p 0.9 --use-rollout-routing-replay"
CALLING_OFF = "--rollout-function-path tests.slime_stack.calling_off.generate_rollout"


def generated(world: World, ray: Any, flags: str) -> tuple[dict[int, Any], list[dict[str, Any]]]:
    """slime's samples by their index, and what its ranks get, of a rollout in which services fail."""
    world.retriever.script = lambda k: status(500) if question_number(k.query) in FAILING_SEARCH else None
    world.engine.script = lambda e: status(500) if question_number(e.prompt) == FAILING_ENGINE else None
    dump = world.folder / "rollout_{rollout_id}.pt"
    ours = "--custom-rollout-log-function-path slime_search.hooks.metrics.log_rollout"
    data = world.data_set([*QUESTIONS, 12])
    options = f"{FLAGS} {ours} {flags} --prompt-data {data} --save-debug-rollout-data {dump}"
    args = world.args(options, max_failure_share=1.0)
    # Megatron's parser has these of a model with experts.
    vars(args).update({name: value for name, value in REPLAY.items() if name != "use_rollout_routing_replay"})
    world.start(args)
    ranks = [ray.get(box.inner) for box in manager(args).generate(0)]
    return {s.index: s for s in dumped_samples(Path(str(dump).format(rollout_id=0)))}, ranks


def test_every_token_has_its_nucleus_and_its_experts(world: World, ray: Any, keys: list[str]) -> None:
    from slime.backends.megatron_utils.cp_utils import prepare_routed_experts_for_routing_replay

    samples, ranks = generated(world, ray, BOTH)
    assert sum(sample.status.name == "FAILED" for sample in samples.values()) == 3 * SAMPLES
    assert sum(sample.response_length == 1 for sample in samples.values()) == SAMPLES
    for rank in ranks:
        columns = ("rollout_top_p_token_ids", "rollout_top_p_token_offsets", "rollout_routed_experts")
        for row, ids, offsets, experts in zip(training_rows(rank), *(rank[name] for name in columns), strict=True):
            tokens, length = row["tokens"].tolist(), row["response_lengths"]
            sampled = samples[row["sample_indices"]].loss_mask
            said = SimpleNamespace(rollout_top_p_token_ids=ids, rollout_top_p_token_offsets=offsets)
            wanted = [nucleus_of(t) if mine else [] for t, mine in zip(tokens[-length:], sampled, strict=True)]
            assert held_nuclei(said) == wanted
            assert experts.shape == (len(tokens) - 1, LAYERS, TOPK) and int(experts.max()) < EXPERTS
            read = max((place for place, mine in enumerate(sampled) if mine), default=-1) + 1
            known = [experts_of(token) for token in tokens[: len(tokens) - length + read - 1]] if read else []
            assert experts[: len(known)].tolist() == known
        prepare_routed_experts_for_routing_replay(
            rank["rollout_routed_experts"],
            rank["tokens"],
            num_experts=EXPERTS,
            data_pad_size_multiplier=128,
            sequence_parallel=False,
            allgather_cp=False,
        )


def test_slime_stops_at_a_sample_without_a_nucleus(slime_home: Path) -> None:
    """Why there is one on every sample. It is the placeholder of a rollout that failed."""
    args: Any = step_arguments(rollout_top_p=0.9)
    told = told_of(TOP_P, PROMPT, [4, 5])
    samples = [written(args, 0, [4, 5], 1.0, meta_info=told), written(args, 1, [], ending=Ending.FAILED)]
    assert "rollout_top_p_token_ids" in converted(args, samples)
    samples[1].rollout_top_p_token_ids = samples[1].rollout_top_p_token_offsets = None
    with pytest.raises(AssertionError):
        converted(args, samples)


def test_a_failed_rollout_trains_nothing_beside_nuclei(keys: list[str]) -> None:
    args: Any = step_arguments(rollout_top_p=0.9)

    def turn(index: int, ids: list[int], reward: float = 0.0, ending: Ending = Ending.ANSWERED) -> Any:
        return written(args, index, ids, reward, ending=ending, meta_info=told_of(TOP_P, PROMPT, ids))

    right, wrong = (lambda: turn(0, [4, 5, 6], 1.0)), (lambda: turn(1, [7, 8]))
    found, _ = trained(args, [right(), wrong(), turn(2, [], ending=Ending.FAILED)], keys)
    other, _ = trained(args, [right(), wrong(), turn(2, [9, 10], ending=Ending.FAILED)], keys)
    assert found.abs().max() > 1e-4
    torch.testing.assert_close(found, other)


@pytest.mark.parametrize("flags", ["", BOTH], ids=["plain", "nuclei and experts"])
@pytest.mark.parametrize("reward_key", ["", "score"])
def test_samples_that_were_called_off_become_training_data(
    flags: str, reward_key: str, world: World, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"--reward-key {reward_key}" if reward_key else ""
    logged = listening(monkeypatch)
    samples, ranks = generated(world, ray, f"{flags} {key} {CALLING_OFF}")
    # The dump is made before any hook is asked.
    called_off = {index for index, sample in samples.items() if not sample.tokens}
    assert len(called_off) == SAMPLES and all(RECORD_KEY not in samples[index].metadata for index in called_off)
    rows = [row for rank in ranks for row in training_rows(rank)]
    assert len(rows) == len(samples)
    for row in rows:
        assert len(row["loss_masks"]) == len(row["rollout_log_probs"]) == row["response_lengths"] >= 1
        if row["sample_indices"] in called_off:
            assert (row["rewards"], row["rollout_mask_sums"], row["response_lengths"]) == (0, 0, 1)
            text = world.tokenizer.decode(row["tokens"][:-1])
            assert text == samples[row["sample_indices"]].prompt
    assert logged["search/aborted"] == SAMPLES / len(samples)


def test_slime_stops_at_a_sample_that_was_called_off(slime_home: Path) -> None:
    """Why they are completed: slime takes tokens and log-probabilities of each."""
    from slime.utils.types import Sample

    args: Any = step_arguments()
    with pytest.raises(TypeError):
        converted(
            args, [written(args, 0, [4], 1.0), Sample(index=1, group_index=0)], lambda args, samples: ([0, 0],) * 2
        )
