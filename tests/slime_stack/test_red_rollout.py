"""Demonstrations beside rollouts, through slime's RolloutManager, to what two data-parallel ranks train on."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from slime_search.errors import ConfigError
from slime_search.hooks.red.config import HOOKS
from slime_search.hooks.red.rollout import SOURCE
from tests.slime_stack.calling_off import generate_rollout as calling_off
from tests.slime_stack.test_conversion import TWO_RANKS, manager
from tests.slime_stack.world import World

QUESTIONS = [0, 1, 2, 6]
SAMPLES, ROLLOUTS = 4, 16
DEMONSTRATIONS = 5
FLAGS = (
    f"--rollout-batch-size {len(QUESTIONS)} --n-samples-per-prompt {SAMPLES} --use-rollout-entropy "
    "--use-dynamic-batch-size --max-tokens-per-gpu 1024 --loss-type custom_loss "
    + " ".join(f"--{name.replace('_', '-')} {path}" for name, path in HOOKS.items())
)


def demonstrations(folder: Path, rows: int = DEMONSTRATIONS) -> Path:
    """Runs with a search, in which each row has its own number of tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = []
    for n in range(rows):
        segments = [
            ("model", f"<think> {'well ' * n}</think>\n<search> thing-{n} </search>"),
            ("frame", "\n\n<information>"),
            ("world", f"Doc 1(Title: thing-{n}) made by name-{n}<|im_end|></information>"),
            ("frame", "</information>\n\n"),
            ("model", f"<think> so </think>\n<answer> name-{n} </answer>"),
        ]
        columns = {
            "segments": [{"owner": owner, "text": text} for owner, text in segments],
            "task": None,
            "tags": ["<information>", "</information>"],
        }
        made.append({"prompt": [{"role": "user", "content": f"Who made thing-{n}?"}], "metadata": columns})
    pq.write_table(pa.Table.from_pylist(made), folder / "sft.parquet")
    return folder / "sft.parquet"


def red_args(world: World, global_batch_size: int, data: Path, **settings: Any) -> Any:
    args = world.args(f"{FLAGS} --global-batch-size {global_batch_size} --prompt-data {world.data_set(QUESTIONS)}")
    args.red = {"sft_data": str(data), "sft_batch_size": 3, **settings}
    # What Megatron's parser adds.
    vars(args).update(calculate_per_token_loss=False)
    return args


def ranks_of(made: Any, ray: Any, rollout_id: int) -> list[dict[str, Any]]:
    made.set_train_parallel_config(TWO_RANKS)
    return [ray.get(box.inner) for box in made.generate(rollout_id)]


def steps_of_rank(rank: dict[str, Any]) -> list[list[int]]:
    """The rows of each training step, on this rank."""
    cut, start = [], 0
    for count in rank["num_microbatches"]:
        cut.append([row for batch in rank["micro_batch_indices"][start : start + count] for row in batch])
        start += count
    return cut


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_each_step_has_its_demonstrations(world: World, ray: Any, steps: int) -> None:
    args = red_args(world, ROLLOUTS // steps + 1, demonstrations(world.folder))
    world.start(args)
    made = manager(args)
    drawn: list[Any] = []
    for rollout_id in range(2):
        ranks = ranks_of(made, ray, rollout_id)
        assert all(rank["global_batch_sizes"] == [ROLLOUTS // steps + 1] * steps for rank in ranks)
        assert all(rank["num_microbatches"] == ranks[0]["num_microbatches"] for rank in ranks)
        for step in range(steps):
            rows = [(rank, row) for rank in ranks for row in steps_of_rank(rank)[step]]
            sft = [(rank, row) for rank, row in rows if rank["source_names"][row] == SOURCE]
            assert len(sft) == 3
            assert len({rank["rollout_ids"][row] for rank, row in sft}) == 1
            assert len({rank["rollout_ids"][row] for rank, row in rows}) == ROLLOUTS // steps + 1
            trained = sum(int(rank["loss_masks"][row].sum()) for rank, row in sft)
            for rank, row in sft:
                # slime's reducer adds up the step's demonstration tokens and divides by their number.
                assert rank["rollout_mask_sums"][row] == trained > 0
                assert rank["rewards"][row] == 0
                assert len(rank["rollout_log_probs"][row]) == rank["response_lengths"][row]
                drawn.append(bytes(rank["tokens"][row].numpy()))
    counts = Counter(drawn)
    assert len(drawn) == 6 * steps
    assert max(counts.values()) - min(counts.values(), default=0) <= 1 and len(counts) == min(5, len(drawn))


def test_demonstrations_have_log_probabilities_beside_rollouts_that_were_called_off(
    world: World, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those come first, and by the first sample slime tells whether all have some."""
    from slime.rollout import sglang_rollout

    own = sglang_rollout.generate_rollout

    def called_off(*call: Any) -> Any:
        monkeypatch.setattr(sglang_rollout, "generate_rollout", own)
        return calling_off(*call)

    monkeypatch.setattr(sglang_rollout, "generate_rollout", called_off)
    args = red_args(world, ROLLOUTS + 1, demonstrations(world.folder))
    world.start(args)
    ranks = ranks_of(manager(args), ray, 0)
    assert sum(not mask.any() for rank in ranks for mask in rank["loss_masks"]) == SAMPLES
    for rank in ranks:
        lengths = [len(values) for values in rank["rollout_log_probs"]]
        assert lengths == rank["response_lengths"]


def test_tokens_and_masks_are_those_of_a_rollout(world: World, ray: Any) -> None:
    """What the world wrote is masked and forges nothing; all else of the response is trained."""
    args = red_args(world, ROLLOUTS + 1, demonstrations(world.folder, rows=1))
    world.start(args)
    ranks = ranks_of(manager(args), ray, 0)
    rank, row = next((rank, row) for rank in ranks for row, name in enumerate(rank["source_names"]) if name == SOURCE)
    tokens, length = rank["tokens"][row].tolist(), rank["response_lengths"][row]
    text = "<|im_start|>user\nWho made thing-0?<|im_end|>\n<|im_start|>assistant\n"
    assert tokens[:-length] == world.tokenizer.encode(text, add_special_tokens=False)
    response, mask = tokens[-length:], rank["loss_masks"][row].tolist()
    parts: list[list[int]] = []
    for place, (token, trained) in enumerate(zip(response, mask, strict=True)):
        if place == 0 or mask[place - 1] != trained:
            parts.append([])
        parts[-1].append(token)
    spoken = [world.tokenizer.decode(part) for part in parts]
    assert spoken[0] == "<think> </think>\n<search> thing-0 </search>"
    assert spoken[1] == (
        "\n\n<information>Doc 1(Title: thing-0) made by name-0<|im_end|></information></information>\n\n"
    )
    assert spoken[2] == "<think> so </think>\n<answer> name-0 </answer>"
    assert not set(parts[1]).intersection(world.tokenizer.all_special_ids)


def test_a_resumed_run_draws_what_would_have_come(world: World, ray: Any) -> None:
    args = red_args(world, ROLLOUTS + 1, demonstrations(world.folder))
    world.start(args)

    def drawn(made: Any, rollout_id: int) -> set[bytes]:
        ranks = ranks_of(made, ray, rollout_id)
        return {
            bytes(rank["tokens"][row].numpy())
            for rank in ranks
            for row, name in enumerate(rank["source_names"])
            if name == SOURCE
        }

    first = manager(args)
    one_run = [drawn(first, n) for n in range(2)]
    assert drawn(manager(args), 1) == one_run[1]


def test_the_accuracy_travels_as_the_demonstrations_raw_reward(world: World, ray: Any) -> None:
    args = red_args(world, ROLLOUTS + 1, demonstrations(world.folder))
    world.start(args)
    ranks = ranks_of(manager(args), ray, 0)
    names = {place: name for rank in ranks for place, name in zip(rank["partition"], rank["source_names"], strict=True)}
    raw = ranks[0]["raw_reward"]
    rewards = [reward for place, reward in enumerate(raw) if names[place] != SOURCE]
    (accuracy,) = {reward for place, reward in enumerate(raw) if names[place] == SOURCE}
    # In this world a right answer earns 1 or 0.8 and a wrong one 0.2 or nothing.
    assert accuracy == sum(reward >= 0.8 for reward in rewards) / len(rewards)
    assert 0 < accuracy < 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"global_batch_size": ROLLOUTS}, "for 16 rollouts in 1 steps give 17"),
        ({"global_batch_size": ROLLOUTS // 2}, "for 16 rollouts in 2 steps give 9"),
        ({"normalize_advantages": True}, "--normalize-advantages"),
        ({"use_rollout_entropy": False}, "--use-rollout-entropy"),
        ({"loss_type": "policy_loss"}, "--loss-type policy_loss"),
        ({"rollout_data_postprocess_path": None}, "slime_search.hooks.red.weights.weigh"),
        ({"custom_reward_post_process_path": None}, "slime_search.hooks.groups.normalize_rewards"),
        ({"red": {}}, "red.sft_data: not set"),
        ({"red": {"sft_data": "x.parquet", "grwoth": 3}}, "red.grwoth: unknown"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_rollout(
    world: World, ray: Any, changes: dict[str, Any], words: str
) -> None:
    args = red_args(world, ROLLOUTS + 1, demonstrations(world.folder))
    vars(args).update(changes)
    world.start(args)
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        manager(args).generate(0)
    assert world.engine.delivered == []


def test_settings_come_from_slimes_yaml(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slime_search.hooks.red.config import red_config

    monkeypatch.setenv("SLIME_SEARCH_RED__WEIGHT", "0.25")
    path = tmp_path / "red.yaml"
    path.write_text(yaml.safe_dump({"red": {"sft_data": "a.parquet", "weight": 3, "growth": 2.0}}))
    args = world.args(f"--rollout-batch-size 1 --prompt-data {world.data_set([1])} --custom-config-path {path}")
    config = red_config(args)
    assert (config.weight, config.growth, config.sft_data) == (0.25, 2.0, Path("a.parquet"))
