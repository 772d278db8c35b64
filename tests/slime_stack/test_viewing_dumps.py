"""What slime saves with --save-debug-rollout-data, in the viewer and in the curves."""

from pathlib import Path
from typing import Any

import pytest

from slime_search.cli.curves import app as curves_app
from slime_search.cli.view import app as view_app
from slime_search.records.dump_rollouts import Pieces, dump_rollouts
from slime_search.records.rollout import Rollout
from tests.slime_stack.test_conversion import FLAGS, QUESTIONS, SAMPLES, advantages_by_hand, dumped_samples, manager
from tests.slime_stack.world import World


@pytest.fixture
def dumps(world: World, ray: Any) -> Path:
    """The folder with the dumps of a rollout and of an evaluation."""
    folder = world.folder / "dumps"
    data = world.data_set(QUESTIONS)
    held_out = f"--eval-interval 1 --eval-prompt-data held-out {data} --eval-max-response-len 120"
    args = world.args(f"{FLAGS} --prompt-data {data} {held_out} --save-debug-rollout-data {folder}/{{rollout_id}}.pt")
    world.start(args)
    made = manager(args)
    made.generate(0)
    made.eval(0)
    return folder


def test_a_training_dump_shows_what_was_trained_on(world: World, dumps: Path) -> None:
    samples = dumped_samples(dumps / "0.pt")
    rollouts = list(dump_rollouts(dumps / "0.pt", Pieces(world.tokenizer)))
    assert len(rollouts) == len(samples) == len(QUESTIONS) * SAMPLES
    advantages = advantages_by_hand(samples)
    for sample, rollout in zip(samples, rollouts, strict=True):
        (run,) = rollout.runs
        assert [i for segment in run.segments for i in segment.token_ids or ()] == sample.tokens
        masks = [int(segment.trained) for segment in run.segments[1:] for _ in segment.tokens]
        assert masks == sample.loss_mask
        assert run.advantage == pytest.approx(advantages[sample.index])
        assert (rollout.stage, rollout.group, rollout.reward) == (
            "rollout 0",
            f"0/{sample.group_index}",
            sample.reward,
        )
    assert any(rollout.facts.searches for rollout in rollouts)


def test_an_evaluations_dump_is_read_too(world: World, dumps: Path) -> None:
    rollouts: list[Rollout] = list(dump_rollouts(dumps / "eval_0.pt", Pieces(world.tokenizer)))
    assert len(rollouts) == len(QUESTIONS)
    assert {rollout.stage for rollout in rollouts} == {"eval 0"}
    assert all(run.advantage is None for rollout in rollouts for run in rollout.runs)


def test_the_commands_take_the_folder(world: World, dumps: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    page, curves = tmp_path / "page.html", tmp_path / "curves.png"
    viewed = CliRunner().invoke(
        view_app, [str(dumps), "--tokenizer", str(world.checkpoint), "--export", str(page)], catch_exceptions=False
    )
    assert viewed.exit_code == 0, viewed.output
    assert f"thing-{QUESTIONS[0]}" in page.read_text()
    drawn = CliRunner().invoke(curves_app, [str(dumps), "--output", str(curves)], catch_exceptions=False)
    assert drawn.exit_code == 0, drawn.output
    assert curves.stat().st_size > 10_000
