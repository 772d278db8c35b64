"""The CoDA example in slime's own rollout, from questions to what each data-parallel rank trains on."""

import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.slime_stack.conftest import _settle
from tests.slime_stack.test_conversion import dumped_samples, manager, training_rows
from tests.slime_stack.world import World, passages
from tests.support.loopback import status
from tests.support.policies import by_turn, question_number
from tests.support.scripted_engine import Exchange, ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

EXAMPLE = Path(__file__).parents[2] / "examples" / "coda"
QUESTIONS, SAMPLES = [1, 2, 3, 4], 4
FLAGS = (
    f"--rollout-batch-size {len(QUESTIONS)} --n-samples-per-prompt {SAMPLES} "
    f"--global-batch-size {len(QUESTIONS) * SAMPLES} --use-dynamic-batch-size --max-tokens-per-gpu 2048 "
)


def think(text: str) -> str:
    return f"<think> {text} </think>\n"


class Team:
    """Each planner delegates as often as its question's number, and answers rightly every other time."""

    def __init__(self) -> None:
        self._answers: dict[int, int] = defaultdict(int)

    def __call__(self, context: str) -> str:
        number = question_number(context)
        if "You are the executor" in context:
            if "Doc 1(" not in context:
                return f"{think('Look.')}<search> thing-{number} maker </search>"
            return f"<refine> name-{number} </refine>\n<answer> name-{number} </answer>"
        if context.count("</result>") < number:
            return f"{think('Ask.')}<task> Who made thing-{number}? </task>"
        self._answers[number] += 1
        return f"{think('So.')}<answer> {'nobody' if self._answers[number] % 2 else f'name-{number}'} </answer>"


class CodaWorld(World):
    hooks: ClassVar[str] = (
        "--custom-generate-function-path generate_with_coda.generate "
        "--custom-rm-path generate_with_coda.reward_func "
        "--custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards"
    )


@pytest.fixture
def world(
    slime_home: Path, qwen: Any, qwen_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CodaWorld]:
    from slime.utils.async_utils import run
    from slime.utils.misc import SingletonMeta

    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr("slime_search.transport.retrying.pause_s", lambda patience, attempt: 0.0)
    SingletonMeta._instances.clear()
    with ScriptedEngine(qwen, by_turn(Team())) as engine, ScriptedRetriever(passages) as retriever:
        yield CodaWorld(engine, retriever, qwen_folder, tmp_path, qwen)
        run(_settle())


def test_an_uneven_fan_out_becomes_training_data(world: CodaWorld, ray: Any) -> None:
    doomed: set[str] = set()

    def fail_one_executor(exchange: Exchange) -> Any:
        """The first executor of question 2 finds no engine, however often it tries."""
        session = exchange.headers.get("X-SMG-Routing-Key", "")
        if "You are the executor" not in exchange.prompt or question_number(exchange.prompt) != 2:
            return None
        doomed.update(() if doomed else {session})
        return status(500) if session in doomed else None

    world.engine.script = fail_one_executor
    dump = world.folder / "rollout_{rollout_id}.pt"
    args = world.args(
        f"{FLAGS} --prompt-data {world.data_set(QUESTIONS)} --save-debug-rollout-data {dump}", max_failure_share=1.0
    )
    world.start(args)
    ranks = [ray.get(box.inner) for box in manager(args).generate(0)]
    samples = dumped_samples(Path(str(dump).format(rollout_id=0)))
    rollouts: dict[int, list[Any]] = defaultdict(list)
    for sample in samples:
        rollouts[sample.rollout_id].append(sample)

    assert len(rollouts) == len(QUESTIONS) * SAMPLES
    failed = {number for number, parts in rollouts.items() if parts[0].status.name == "FAILED"}
    assert len(failed) == 1
    for number, parts in rollouts.items():
        question = question_number(parts[0].prompt)
        assert {part.reward for part in parts} == {parts[0].reward}
        if number not in failed:
            assert len(parts) == question + 1

    by_rollout = advantages_by_hand(rollouts, failed)
    assert any(value > 0.5 for value in by_rollout.values())
    rows = [
        row | {"rollout": number}
        for rank in ranks
        for row, number in zip(training_rows(rank), rank["rollout_ids"], strict=True)
    ]
    assert len(rows) == len(samples)
    weights: dict[int, float] = defaultdict(float)
    for row in rows:
        number = row["rollout"]
        assert row["rewards"] == pytest.approx(by_rollout[number])
        if number in failed:
            assert sum(row["loss_masks"]) == 0
        else:
            weights[number] += float(sum(row["loss_masks"])) / float(row["rollout_mask_sums"])
    # However many samples it became, a rollout weighs as much as any other.
    assert weights == pytest.approx(dict.fromkeys(set(rollouts) - failed, 1.0))
    trained = {tuple(int(i) for i in row["tokens"]): [int(m) for m in row["loss_masks"]] for row in rows}
    for sample in samples:
        if sample.rollout_id not in failed:
            assert trained[tuple(sample.tokens)] == sample.loss_mask


def advantages_by_hand(rollouts: dict[int, list[Any]], failed: set[int]) -> dict[int, float]:
    """One reward a rollout: 1.3 for a right answer, 0.3 for a wrong one, in form both."""
    groups: dict[int, list[int]] = defaultdict(list)
    for number, parts in rollouts.items():
        groups[parts[0].group_index].append(number)
    advantages = dict.fromkeys(rollouts, 0.0)
    for numbers in groups.values():
        live = [number for number in numbers if number not in failed]
        rewards = {n: 1.3 if "<answer> name-" in rollouts[n][-1].response else 0.3 for n in live}
        for n in live:
            assert rollouts[n][0].reward == pytest.approx(rewards[n])
            spread = statistics.stdev(rewards.values()) + 1e-6
            advantages[n] = (rewards[n] - statistics.fmean(rewards.values())) / spread
    return advantages
