"""Group normalisation against numbers worked out by hand."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.errors import DataError
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.groups import normalize_rewards


def arguments(**overrides: Any) -> Any:
    defaults = {"advantage_estimator": "grpo", "rewards_normalization": True, "grpo_std_normalization": True}
    return SimpleNamespace(**{**defaults, "reward_key": None, **overrides})


def batch(*rows: tuple[int, float | None], removed: tuple[int, ...] = ()) -> list[LocalSample]:
    """Samples of (group, reward); ``removed`` are positions."""
    return [
        LocalSample(index=position, group_index=group, reward=reward, remove_sample=position in removed)
        for position, (group, reward) in enumerate(rows)
    ]


# mean 0.5, sample deviation √(1/3)
HALF = 0.5 / (math.sqrt(1 / 3) + 1e-6)

CASES: list[tuple[str, list[LocalSample], dict[str, Any], list[float]]] = [
    ("two against two", batch((0, 1.0), (0, 0.0), (0, 1.0), (0, 0.0)), {}, [HALF, -HALF, HALF, -HALF]),
    (
        "groups interleaved",
        batch((0, 1.0), (1, 5.0), (0, 0.0), (1, 5.0)),
        {},
        [0.5 / (math.sqrt(0.5) + 1e-6), 0.0, -0.5 / (math.sqrt(0.5) + 1e-6), 0.0],
    ),
    ("uneven groups", batch((0, 3.0), (1, 1.0), (1, 2.0), (1, 3.0)), {}, [0.0, -1 / (1 + 1e-6), 0.0, 1 / (1 + 1e-6)]),
    (
        "a failed sample left out",
        batch((0, 1.0), (0, 0.0), (0, 0.0), removed=(2,)),
        {"grpo_std_normalization": False},
        [0.5, -0.5, 0.0],
    ),
    ("a failed sample would shift the mean", batch((0, 1.0), (0, 1.0), (0, 0.0), removed=(2,)), {}, [0.0, 0.0, 0.0]),
    ("alone in the group", batch((0, 1.0)), {}, [0.0]),
    ("alone after failures", batch((0, 1.0), (0, 0.0), removed=(1,)), {}, [0.0, 0.0]),
    ("all failed", batch((0, 0.0), (0, 0.0), removed=(0, 1)), {}, [0.0, 0.0]),
    ("all equal", batch((0, 0.2), (0, 0.2), (0, 0.2)), {}, [0.0, 0.0, 0.0]),
    ("without the deviation", batch((0, 1.0), (0, 0.0), (0, 0.5)), {"grpo_std_normalization": False}, [0.5, -0.5, 0.0]),
    (
        "gspo",
        batch((0, 1.0), (0, 0.0)),
        {"advantage_estimator": "gspo"},
        [0.5 / (math.sqrt(0.5) + 1e-6), -0.5 / (math.sqrt(0.5) + 1e-6)],
    ),
    (
        "the reinforce++ baseline has no deviation",
        batch((0, 1.0), (0, 0.0)),
        {"advantage_estimator": "reinforce_plus_plus_baseline"},
        [0.5, -0.5],
    ),
    ("ppo takes rewards as they are", batch((0, 1.0), (0, 0.25)), {"advantage_estimator": "ppo"}, [1.0, 0.25]),
    ("ppo leaves failures out", batch((0, 1.0), (0, 0.5), removed=(1,)), {"advantage_estimator": "ppo"}, [1.0, 0.0]),
    ("normalisation off", batch((0, 1.0), (0, 0.25)), {"rewards_normalization": False}, [1.0, 0.25]),
]


@pytest.mark.parametrize(
    ("samples", "options", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_by_hand(samples: list[LocalSample], options: dict[str, Any], expected: list[float]) -> None:
    raw, normalized = normalize_rewards(arguments(**options), samples)
    assert raw == [sample.reward for sample in samples]
    assert normalized == pytest.approx(expected, abs=1e-9)


def fanned_out(*rollouts: tuple[int, float, int]) -> list[LocalSample]:
    """Rollouts of (group, reward, how many samples they became); one of them became several only if it has an id."""
    return [
        LocalSample(index=number, group_index=group, reward=reward, rollout_id=number if parts > 1 else None)
        for number, (group, reward, parts) in enumerate(rollouts)
        for _ in range(parts)
    ]


def test_a_rollout_of_several_samples_counts_once() -> None:
    samples = fanned_out((0, 1.0, 3), (0, 0.0, 1), (0, 0.5, 2), (1, 1.0, 2))
    raw, normalized = normalize_rewards(arguments(grpo_std_normalization=False), samples)
    assert raw == [1.0, 1.0, 1.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert normalized == [0.5, 0.5, 0.5, -0.5, 0.0, 0.0, 0.0, 0.0]


def test_removed_parts_of_a_rollout_leave_the_others_alone() -> None:
    samples = fanned_out((0, 1.0, 2), (0, 0.0, 1), (0, 0.0, 2))
    for sample in samples[3:]:
        sample.remove_sample = True
    _, normalized = normalize_rewards(arguments(grpo_std_normalization=False), samples)
    assert normalized == [0.5, 0.5, -0.5, 0.0, 0.0]


@given(
    rollouts=st.lists(st.tuples(st.integers(0, 2), st.floats(-2, 2), st.integers(1, 4)), max_size=8),
    std=st.booleans(),
)
def test_fanning_out_changes_no_advantage(rollouts: list[tuple[int, float, int]], std: bool) -> None:
    args = arguments(grpo_std_normalization=std)
    _, once = normalize_rewards(args, fanned_out(*((group, reward, 1) for group, reward, _ in rollouts)))
    samples = fanned_out(*rollouts)
    _, several = normalize_rewards(args, samples)
    assert several == pytest.approx([once[sample.index or 0] for sample in samples])


@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_named_with_its_sample(reward: float) -> None:
    with pytest.raises(DataError, match=r"sample 1: its reward is (nan|inf)"):
        normalize_rewards(arguments(), batch((0, 1.0), (0, reward)))


def test_a_sample_without_a_reward_is_removed(qwen_folder: Path) -> None:
    samples = batch((0, 1.0), (0, None), (0, 0.0))
    args = arguments(grpo_std_normalization=False, hf_checkpoint=str(qwen_folder))
    raw, normalized = normalize_rewards(args, samples)
    assert (raw, normalized) == ([1.0, 0.0, 0.0], [0.5, 0.0, -0.5])
    assert [sample.remove_sample for sample in samples] == [False, True, False]
    assert samples[1].reward == 0.0


def test_an_empty_batch_is_no_error() -> None:
    assert normalize_rewards(arguments(), []) == ([], [])


rows = st.lists(st.tuples(st.integers(0, 3), st.floats(-2, 2), st.booleans()), max_size=12)


@given(rows=rows, order=st.randoms(use_true_random=False))
def test_each_group_is_centred_whatever_the_order(rows: list[tuple[int, float, bool]], order: Any) -> None:
    removed = tuple(p for p, (_, _, gone) in enumerate(rows) if gone)
    samples = batch(*((group, reward) for group, reward, _ in rows), removed=removed)
    _, normalized = normalize_rewards(arguments(), samples)
    by_index = dict(zip((s.index for s in samples), normalized, strict=True))
    for group in {s.group_index for s in samples}:
        members = [s for s in samples if s.group_index == group]
        assert sum(by_index[s.index] for s in members) == pytest.approx(0.0, abs=1e-5)
    assert all(by_index[s.index] == 0.0 for s in samples if s.remove_sample)
    order.shuffle(samples)
    _, again = normalize_rewards(arguments(), samples)
    assert {s.index: value for s, value in zip(samples, again, strict=True)} == pytest.approx(by_index, abs=1e-6)
