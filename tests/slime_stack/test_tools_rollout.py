"""The tool-calling example in slime's own rollout, on servers that take token ids and on servers that render."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.slime_stack.conftest import _settle
from tests.slime_stack.test_conversion import dumped_samples, manager, training_rows
from tests.slime_stack.world import World, passages
from tests.support.chat_rollouts import BEGIN, by_chat_turn, call, sampled_by, trained_in
from tests.support.chat_templates import save_family
from tests.support.policies import question_number
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import Abort, Exchange, Policy
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.training_view import TrainingView, training_view

GROUPS, SAMPLES = 6, 4
FLAGS = (
    f"--rollout-batch-size {GROUPS} --n-samples-per-prompt {SAMPLES} --global-batch-size {GROUPS * SAMPLES} "
    "--use-dynamic-batch-size --max-tokens-per-gpu 4096 --rollout-max-response-len 600"
)


class ChatWorld(World):
    """Prompts are chat messages, unless ``prompt_flags`` has slime render them."""

    hooks: ClassVar[str] = (
        "--custom-generate-function-path generate_with_search_oai.generate "
        "--custom-rm-path generate_with_search_oai.reward_func "
        "--custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards"
    )
    prompt_flags: ClassVar[str] = ""

    def check_exact(self, sample: Any, exchanges: list[Exchange] | None = None) -> TrainingView:
        view = training_view(self.exchanges(sample) if exchanges is None else exchanges)
        assert (sample.tokens, sample.loss_mask, sample.rollout_log_probs) == (
            view.tokens,
            view.loss_mask,
            view.log_probs,
        )
        assert sample.response_length == len(view.loss_mask)
        for world in view.world:
            text = self.tokenizer.decode(world)
            assert text.startswith("\n<|im_start|>user\n<tool_response>\n") and text.endswith(BEGIN)
        return view


class RenderedByClient(ChatWorld):
    prompt_flags: ClassVar[str] = "--apply-chat-template --tool-key tools"

    def data_set(self, numbers: range | list[int]) -> Path:
        """The same questions with the tools column that the example's data has."""
        import json

        import pyarrow.parquet as pq

        from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS

        path = super().data_set(numbers)
        table = pq.read_table(path)
        pq.write_table(table.append_column("tools", [[json.dumps(TOOL_SCHEMAS)] * len(table)]), path)
        return path


def searching_policy(seed: int) -> Policy:
    """Searches one to three times, for two things at once now and then, and knows the answer half of the time."""
    choice = random.Random(seed)

    def turn(number: int, context: str) -> str:
        thing = question_number(context)
        if number < 1 + thing % 3:
            queries = [f"thing-{thing}, part {number}"] + ["thing-99"] * choice.randrange(2)
            return f"<think>\nhm\n</think>\n\n{chr(10).join(map(call, queries))}<|im_end|>"
        return f"<answer> {choice.choice([f'name-{thing}', 'nobody'])} </answer><|im_end|>"

    return by_chat_turn(turn)


@contextmanager
def chat_world(made: type[ChatWorld], tmp_path: Path, *, canonical: bool = False, **server: Any) -> Iterator[Any]:
    from slime.utils.async_utils import run
    from slime.utils.misc import SingletonMeta
    from transformers import AutoTokenizer

    SingletonMeta._instances.clear()
    checkpoint = save_family(tmp_path / "checkpoint", "qwen2.5")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenise = tokenizer.encode if canonical else None
    with (
        ScriptedChat(tokenizer, searching_policy(seed=3), tokenise=tokenise, **server) as engine,
        ScriptedRetriever(passages) as retriever,
    ):
        yield made(engine, retriever, checkpoint, tmp_path, tokenizer)
        run(_settle())


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slime_search.transport.retrying.pause_s", lambda patience, attempt: 0.0)


def flat(output: Any) -> list[Any]:
    """The samples of a rollout, whether or not they fanned out."""
    found: list[Any] = []
    for group in output.samples:
        for one in group:
            found += one if isinstance(one, list) else [one]
    return found


@pytest.mark.parametrize("made", [ChatWorld, RenderedByClient])
def test_every_sample_of_a_rollout_is_exact(made: type[ChatWorld], slime_home: Path, tmp_path: Path) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    with chat_world(made, tmp_path) as world:
        args = world.args(f"{FLAGS} --prompt-data {world.data_set(range(GROUPS))}", max_turns=3)
        samples = flat(generate_rollout(args, 0, world.start(args)))
        for sample in samples:
            view = world.check_exact(sample)
            number = question_number(world.tokenizer.decode(view.prompt_ids))
            assert len(view.world) == 1 + number % 3
            right = f"name-{number} </answer>" in sample.response.rpartition("<answer>")[2]
            assert (sample.reward, sample.status.name) == (1.0 if right else 0.2, "COMPLETED")
        assert len(samples) == GROUPS * SAMPLES and {s.reward for s in samples} == {1.0, 0.2}
        assert len(world.engine.probes) == 1
        # The comparison means something only if the tokens were not canonical.
        assert any(world.tokenizer.encode(s.response) != s.tokens[-s.response_length :] for s in samples)
        assert '"name": "search"' in world.engine.turns[0].prompt


def test_an_aborted_sample_is_resumed_inside_its_turn(slime_home: Path, tmp_path: Path) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    from tests.support.loopback import until

    with chat_world(ChatWorld, tmp_path) as world:
        flags = f"--n-samples-per-prompt 2 --partial-rollout --prompt-data {world.data_set([0, 1])}"
        flags += " --rollout-max-response-len 600"
        held = set()

        def script(exchange: Exchange) -> Abort | None:
            if world.engine.aborts or exchange in world.engine.probes or question_number(exchange.prompt) == 0:
                return None
            held.add(exchange.number)
            return Abort(9, held=True)

        async def gate(exchange: Exchange) -> None:
            if exchange not in world.engine.probes and question_number(exchange.prompt) == 0:
                await until(lambda: world.engine.aborts > 0 or world.engine.held == 2)

        world.engine.script, world.engine.gate = script, gate
        args = world.args(f"{flags} --rollout-batch-size 1 --over-sampling-batch-size 2 --global-batch-size 2")
        source = world.start(args)
        generate_rollout(args, 0, source)
        (interrupted,) = source.buffer
        assert {(s.status.name, s.response_length) for s in interrupted} == {("ABORTED", 9)}
        args = world.args(f"{flags} --rollout-batch-size 1 --global-batch-size 2")
        (resumed,) = generate_rollout(args, 1, source).samples
        for sample in resumed:
            world.check_exact(sample)
            assert sample.status.name == "COMPLETED" and sample.reward in (1.0, 0.2)
    assert len(held) == 2


@pytest.mark.parametrize("canonical", [True, False])
def test_a_server_that_renders_becomes_training_data(
    canonical: bool, slime_home: Path, tmp_path: Path, ray: Any
) -> None:
    """slime's own RolloutManager on lists of samples: nothing trained twice, each rollout's reward normalised once."""
    with chat_world(ChatWorld, tmp_path, canonical=canonical, takes_ids=False, style="vllm") as world:
        dump = tmp_path / "rollout_{rollout_id}.pt"
        data = world.data_set(range(GROUPS))
        args = world.args(f"{FLAGS} --prompt-data {data} --save-debug-rollout-data {dump}", max_turns=3)
        world.start(args)
        ranks = [ray.get(box.inner) for box in manager(args).generate(0)]
        samples = dumped_samples(Path(str(dump).format(rollout_id=0)))
        rollouts: dict[int, list[Any]] = {}
        for sample in samples:
            rollouts.setdefault(sample.rollout_id, []).append(sample)
        assert len(rollouts) == GROUPS * SAMPLES
        assert (len(samples) > len(rollouts)) is not canonical
        for parts in rollouts.values():
            trained, sampled = trained_in(parts), sampled_by(world.exchanges(parts[0]))
            assert len(set(trained)) == len(trained) > 0 and set(trained) <= sampled
            assert len({p.reward for p in parts}) == len({p.index for p in parts}) == 1
            assert all(p.status.name == "COMPLETED" for p in parts)

    rows = [row for rank in ranks for row in training_rows(rank)]
    assert len(rows) == len(samples)
    expected = advantages(rollouts)
    for row in rows:
        parts = rollouts[row["sample_indices"]]
        (sample,) = [p for p in parts if p.tokens == list(row["tokens"])]
        assert list(row["loss_masks"]) == sample.loss_mask
        assert row["rewards"] == pytest.approx(expected[sample.rollout_id])
        # slime divides a rollout's loss by all of its trained tokens, whichever sample they are in.
        assert row["rollout_mask_sums"] == sum(sum(p.loss_mask) for p in parts)


def advantages(rollouts: dict[int, list[Any]]) -> dict[int, float]:
    """Worked out over rollouts, whatever number of samples they became."""
    import statistics

    groups: dict[int, dict[int, float]] = {}
    for number, parts in rollouts.items():
        groups.setdefault(parts[0].group_index, {})[number] = parts[0].reward
    found = {}
    for rewards in groups.values():
        mean, spread = statistics.fmean(rewards.values()), statistics.stdev(rewards.values()) + 1e-6
        found |= {number: (reward - mean) / spread for number, reward in rewards.items()}
    return found
