"""Every recipe through slime's own trainer: rollouts, an update, an evaluation, a checkpoint and what reads them."""

import pytest
from transformers import AutoModelForCausalLM

from tests.slime_train.conftest import Rehearse

MISMATCH = "train/train_rollout_logprob_abs_diff"
NATS = 0.01
"""The most by which trainer and engine may differ at a token, in the mean. Both compute in bf16."""


@pytest.mark.parametrize(
    ("recipe", "red"),
    [
        ("search-r1", False),
        ("search-r1-tools", False),
        ("thinker-searcher", False),
        ("coda", False),
        ("coda", True),
        ("distill", False),
    ],
)
def test_a_recipe_is_trained(recipe: str, red: bool, rehearse: Rehearse) -> None:
    done = rehearse(recipe, "--eval-interval", "1", red=red)
    folder = done.folder
    assert {path.name for path in folder.dumps.glob("*.pt")} >= {"0.pt", "1.pt", "eval_0.pt", "eval_1.pt"}
    assert set(done.scalars["train/grad_norm"]) == {0, 1}
    assert max(done.scalars["train/grad_norm"].values()) > 0
    # Demonstrations were never sampled, so they have no log-probability of the engine's to differ from.
    if not red:
        assert max(done.scalars[MISMATCH].values()) < NATS
    assert set(done.scalars["eval/held-out/search/em"]) >= {0, 1}
    assert 0 <= done.summary["em_after"]["mean"] <= 1
    if recipe == "distill":
        assert "rollout/opd_reverse_kl" in done.scalars

    assert (folder.checkpoints / "latest_checkpointed_iteration.txt").read_text().strip() == "1"
    trained, start = (AutoModelForCausalLM.from_pretrained(path) for path in (folder.model, folder.policy))
    moved = [name for name, weight in trained.named_parameters() if not weight.equal(start.get_parameter(name))]
    assert "model.embed_tokens.weight" in moved
    assert folder.curve.stat().st_size > 0 and folder.page.stat().st_size > 0
