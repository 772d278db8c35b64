"""Which groups slime samples again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slime_search.hooks.filters import keep_varied


def rollout(number: int, reward: float, parts: int, *, removed: bool = False) -> list[Any]:
    from slime.utils.types import Sample

    fields: dict[str, Any] = {"rollout_id": number, "reward": reward, "remove_sample": removed}
    return [Sample(index=number, group_index=0, **fields) for _ in range(parts)]


@pytest.mark.parametrize(
    ("rollouts", "kept", "reason"),
    [
        ([(1.0, 3), (0.0, 1)], True, None),
        ([(1.0, 3), (1.0, 1)], False, "all_1.0"),
        ([(1.0, 2), (None, 2)], False, "all_1.0"),
        ([(None, 2)], False, "no_live_rollout"),
    ],
)
@pytest.mark.parametrize("flat", [True, False])
def test_keeps_groups_with_different_rewards(
    slime_home: Path, rollouts: list[tuple[float | None, int]], kept: bool, reason: str | None, flat: bool
) -> None:
    from slime.rollout.filter_hub.base_types import call_dynamic_filter

    group: list[Any] = [
        rollout(number, reward or 0.0, parts, removed=reward is None) for number, (reward, parts) in enumerate(rollouts)
    ]
    if flat:
        group = [sample for one in group for sample in one]
    output = call_dynamic_filter(keep_varied, SimpleNamespace(reward_key=None), group)
    assert (output.keep, output.reason) == (kept, reason)
