"""The cold start: demonstrations through slime's data source and RolloutManager to its SFT loss."""

from typing import Any

import pytest

from slime_search.errors import DataError
from slime_search.hooks.demonstrations import Encoder, read_demonstrations
from tests.slime_stack.test_conversion import TWO_RANKS, manager
from tests.slime_stack.test_red_rollout import demonstrations
from tests.slime_stack.world import World

FLAGS = (
    "--rollout-function-path slime_search.hooks.sft_rollout.generate_rollout --input-key prompt "
    "--label-key prompt --metadata-key metadata --rollout-shuffle --rollout-batch-size 4 --global-batch-size 4 "
    "--loss-type sft_loss --disable-compute-advantages-and-returns --use-dynamic-batch-size --max-tokens-per-gpu 1024"
)


def sft_args(world: World, monkeypatch: pytest.MonkeyPatch, flags: str = "") -> Any:
    # The chat template is applied to the prompt alone, here and by the encoder.
    monkeypatch.setattr(World, "prompt_flags", "")
    monkeypatch.setattr(World, "hooks", "")
    return world.args(f"{FLAGS} --prompt-data {demonstrations(world.folder, rows=8)} {flags}")


def test_masks_are_right_to_the_token(world: World, ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    args = sft_args(world, monkeypatch)
    made = manager(args)
    made.set_train_parallel_config(TWO_RANKS)
    found = {}
    for rollout_id in range(2):
        for box in made.generate(rollout_id):
            rank = ray.get(box.inner)
            for tokens, length, mask in zip(rank["tokens"], rank["response_lengths"], rank["loss_masks"], strict=True):
                found[tuple(tokens.tolist())] = length, mask.tolist()
    encoder = Encoder(world.tokenizer)
    wanted = [encoder.encode(one) for one in read_demonstrations(world.folder / "sft.parquet")]
    assert found == {(*e.prompt_ids, *e.response_ids): (len(e.response_ids), e.loss_mask) for e in wanted}
    assert all(0 < sum(e.loss_mask) < len(e.loss_mask) for e in wanted)


def test_a_demonstration_is_trained_on_once(world: World, ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    args = sft_args(world, monkeypatch, "--n-samples-per-prompt 2 --global-batch-size 8")
    with pytest.raises(DataError, match="--n-samples-per-prompt 2"):
        manager(args).generate(0)
