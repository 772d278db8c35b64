"""The Thinker–Searcher example in slime's own rollout: every token is the Thinker's, or what the Searcher answered."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.slime_stack.conftest import _settle
from tests.slime_stack.test_conversion import advantages_by_hand, dumped_samples, manager, training_rows
from tests.slime_stack.world import World, passages, wavering_policy
from tests.support.loopback import hang, raw, status, until
from tests.support.policies import question_number, spoken_turns, think_answer, think_search
from tests.support.rollouts import PROMPT
from tests.support.scripted_engine import Abort, Exchange, ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.scripted_searcher import ScriptedSearcher
from tests.support.thinkers import SEARCHER
from tests.support.training_view import TrainingView, training_view

EXAMPLE = Path(__file__).parents[2] / "examples" / "thinker_searcher"
GROUPS, SAMPLES = 4, 4
FLAGS = (
    f"--rollout-batch-size {GROUPS} --n-samples-per-prompt {SAMPLES} --global-batch-size {GROUPS * SAMPLES} "
    "--use-dynamic-batch-size --max-tokens-per-gpu 4096"
)


class ThinkerWorld(World):
    """The retriever's place is the Searcher service's."""

    hooks: ClassVar[str] = (
        "--custom-generate-function-path generate_with_thinker.generate "
        "--custom-rm-path generate_with_thinker.reward_func "
        "--custom-reward-post-process-path slime_search.hooks.groups.normalize_rewards"
    )
    searcher: ScriptedSearcher

    def args(self, flags: str, **config: Any) -> Any:
        return super().args(flags, searcher_url=self.searcher.search_url, searcher_attempts=2, **config)

    def check_exact(self, sample: Any, exchanges: list[Exchange] | None = None) -> TrainingView:
        view = training_view(self.exchanges(sample) if exchanges is None else exchanges)
        assert view.prompt_ids == self.tokenizer.encode(sample.prompt, add_special_tokens=False)
        assert (sample.tokens, sample.rollout_log_probs) == (view.tokens, view.log_probs)
        assert sample.response_length == len(view.loss_mask) == len(sample.loss_mask)
        for world in view.world:
            assert not set(world).intersection(self.tokenizer.all_special_ids)
        return view


def summary(question: str) -> str | None:
    number = question_number(question)
    return None if number % 5 == 4 else f"thing-{number} was made by name-{number}."


@pytest.fixture
def thinkers(
    slime_home: Path, qwen: Any, qwen_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ThinkerWorld]:
    from slime.utils.async_utils import run
    from slime.utils.misc import SingletonMeta

    monkeypatch.setattr("slime_search.transport.retrying.pause_s", lambda patience, attempt: 0.0)
    monkeypatch.syspath_prepend(str(EXAMPLE))
    SingletonMeta._instances.clear()
    with (
        ScriptedEngine(qwen, wavering_policy(seed=3)) as engine,
        ScriptedRetriever(passages) as retriever,
        ScriptedSearcher(summary) as searcher,
    ):
        world = ThinkerWorld(engine, retriever, qwen_folder, tmp_path, qwen)
        world.searcher = searcher
        yield world
        run(_settle())


def test_a_rollout_through_slimes_conversion(thinkers: ThinkerWorld, ray: Any) -> None:
    """Habits are one and two delegations, guessing, and one that never stops delegating; one question finds nothing."""
    failing, open_ended = 6, 4
    thinkers.searcher.script = lambda asked: status(503) if question_number(asked.text) == failing else None
    questions = [0, 1, failing, open_ended]
    dump = thinkers.folder / "rollout_{rollout_id}.pt"
    args = thinkers.args(
        f"{FLAGS} --prompt-data {thinkers.data_set(questions)} --save-debug-rollout-data {dump}", max_failure_share=1.0
    )
    thinkers.start(args)
    ranks = [ray.get(box.inner) for box in manager(args).generate(0)]
    samples = {s.index: s for s in dumped_samples(Path(str(dump).format(rollout_id=0)))}
    assert len(samples) == GROUPS * SAMPLES
    statuses = Counter((question_number(s.prompt), s.status.name) for s in samples.values())
    assert statuses == {(0, "COMPLETED"): 4, (1, "COMPLETED"): 4, (6, "FAILED"): 4, (4, "TRUNCATED"): 4}
    advantages = advantages_by_hand(list(samples.values()))
    assert any(value > 0.5 for value in advantages.values()), "the policy did not waver"
    rows = [row for rank in ranks for row in training_rows(rank)]
    assert sorted(row["sample_indices"] for row in rows) == sorted(samples)
    for row in rows:
        sample = samples[row["sample_indices"]]
        view = thinkers.check_exact(sample)
        assert list(row["tokens"]) == view.tokens
        assert row["rewards"] == pytest.approx(advantages[sample.index])
        number = question_number(sample.prompt)
        if number == failing:
            assert sum(row["loss_masks"]) == row["rollout_mask_sums"] == row["rewards"] == 0
            assert not view.world and sample.response.endswith("</search>")
            continue
        assert list(row["loss_masks"]) == view.loss_mask
        read = "The searcher found no answer." if number == open_ended else f"thing-{number} was made by name-{number}."
        assert {thinkers.tokenizer.decode(world) for world in view.world} == {
            f"\n\n<information>{read}</information>\n\n"
        }
    asked = Counter(map(question_number, thinkers.searcher.questions))
    assert asked == {0: 4, 1: 8, failing: 2 * 4, open_ended: 2 * 4}


def test_the_searcher_on_slimes_second_model(thinkers: ThinkerWorld, qwen: Any) -> None:
    from slime.rollout.sglang_rollout import generate_rollout, get_model_url

    with ScriptedEngine(qwen, SEARCHER, seed=9) as frozen:
        local = {"search_url": thinkers.retriever.search_url}
        flags = f"{FLAGS} --prompt-data {thinkers.data_set([0, 1, 2, 6])}"
        args = thinkers.args(
            flags, searcher_model="searcher", searcher_checkpoint=str(thinkers.checkpoint), local=local
        )
        # What slime sets when it has started the models of its --sglang-config.
        args.sglang_model_routers = {
            "actor": ("127.0.0.1", thinkers.engine.port),
            "searcher": ("127.0.0.1", frozen.port),
        }
        assert get_model_url(args, "searcher", "/generate") == f"{frozen.url}/generate"
        output = generate_rollout(args, 0, thinkers.start(args))
        for sample in (sample for group in output.samples for sample in group):
            view = thinkers.check_exact(sample)
            assert (sample.status.name, sample.loss_mask) == ("COMPLETED", view.loss_mask)
        assert thinkers.searcher.asked == []
        delegated = {0: 4, 1: 8, 2: 0, 6: 4}
        assert len(frozen.exchanges) == 2 * sum(delegated.values())
        assert Counter(map(question_number, thinkers.retriever.queries)) == Counter(delegated) - Counter({2: 1})


FAULTS = {"down": status(500), "garbage": raw(b"\xff not JSON"), "slow": hang}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_searcher_that_fails_teaches_nothing(fault: Any, thinkers: ThinkerWorld) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    from slime_search.hooks.groups import normalize_rewards

    thinkers.searcher.script = lambda asked: fault
    flags = f"{FLAGS} --prompt-data {thinkers.data_set([0, 2, 6, 8])}"
    args = thinkers.args(flags, searcher_timeout_s=0.3, max_failure_share=0.5)
    samples = [s for group in generate_rollout(args, 0, thinkers.start(args)).samples for s in group]
    _, normalised = normalize_rewards(args, samples)
    for sample, advantage in zip(samples, normalised, strict=True):
        view = thinkers.check_exact(sample)
        if question_number(sample.prompt) in (0, 6):
            assert (sample.status.name, sample.reward, sample.remove_sample, advantage) == ("FAILED", 0.0, True, 0.0)
            assert sample.metadata["slime_search"]["failed_service"] == "searcher"
            assert not view.world
        else:
            assert (sample.status.name, sample.remove_sample) == ("COMPLETED", False)


def test_a_searcher_that_is_down_for_all_stops_the_run(thinkers: ThinkerWorld) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    from slime_search.errors import TooManyFailures

    thinkers.searcher.script = lambda asked: status(500)
    args = thinkers.args(f"{FLAGS} --prompt-data {thinkers.data_set([0, 1, 6, 7])}", max_failure_share=0.5)
    with pytest.raises(TooManyFailures, match=r"because of the searcher\. .*max_failure_share"):
        generate_rollout(args, 0, thinkers.start(args))


def test_an_aborted_thinker_is_resumed(thinkers: ThinkerWorld) -> None:
    """The abort meets one in its first turn, one in its second, and one whose Searcher is at work."""
    from slime.rollout.sglang_rollout import generate_rollout

    quick, in_first, in_second, delegating = 0, 6, 7, 12
    engine, waiting = thinkers.engine, 0

    def script(exchange: Exchange) -> Abort | None:
        if engine.aborts:
            return None
        match question_number(exchange.prompt), spoken_turns(exchange.prompt):
            case (6, 0):
                return Abort(11, held=True)
            case (7, 1):
                return Abort(5, held=True)
        return None

    async def gate(exchange: Exchange) -> None:
        if question_number(exchange.prompt) == quick:
            await until(lambda: engine.aborts > 0 or (engine.held, waiting) == (4, 2))

    async def never(request: Any, proper: Any) -> Any:
        nonlocal waiting
        waiting += 1
        return await hang(request, proper)

    def searcher_script(asked: Any) -> Any:
        return never if question_number(asked.text) == delegating and not engine.aborts else None

    engine.script, engine.gate, thinkers.searcher.script = script, gate, searcher_script
    data = thinkers.data_set([quick, in_first, in_second, delegating])
    flags = f"--n-samples-per-prompt 2 --partial-rollout --prompt-data {data}"
    args = thinkers.args(f"{flags} --rollout-batch-size 1 --over-sampling-batch-size 4 --global-batch-size 2")
    source = thinkers.start(args)
    generate_rollout(args, 0, source)
    requeued = {question_number(group[0].prompt) for group in source.buffer}
    assert requeued == {in_first, in_second, delegating}
    args = thinkers.args(f"{flags} --rollout-batch-size 3 --global-batch-size 6")
    for group in generate_rollout(args, 1, source).samples:
        for sample in group:
            view = thinkers.check_exact(sample)
            assert (sample.status.name, sample.loss_mask) == ("COMPLETED", view.loss_mask)
    asked = Counter(map(question_number, thinkers.searcher.questions))
    assert (asked[in_first], asked[in_second]) == (2, 2 * 2), "nothing that was answered is asked again"
    assert asked[delegating] == 2 + 2, "the Searcher was left, and asked again"


def test_the_prompt_is_what_slime_rendered(thinkers: ThinkerWorld) -> None:
    from slime.rollout.sglang_rollout import generate_rollout

    flags = "--rollout-batch-size 1 --n-samples-per-prompt 1 --global-batch-size 1"
    args = thinkers.args(f"{flags} --prompt-data {thinkers.data_set([0])}", thinker_max_turns=1)
    ((sample,),) = generate_rollout(args, 0, thinkers.start(args)).samples
    assert sample.prompt == PROMPT.format(number=0)
    assert sample.response.startswith(think_search("thing-0 maker, part 0"))
    assert sample.response.endswith((think_answer("name-0"), think_answer("nobody")))
