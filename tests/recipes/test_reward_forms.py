"""Rewards in the form that slime reads them in, and by whichever function the run or the data set names."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from slime_search.core.trajectory import Ending
from slime_search.hooks.contract import LocalSample, reward_number
from slime_search.hooks.driving import Seeded, drive
from slime_search.hooks.groups import normalize_rewards
from slime_search.hooks.runtime import Runtime
from slime_search.hooks.samples import read_trajectory, read_whole, whole_rollout
from slime_search.recipes.coda.recipe import Coda
from slime_search.recipes.search_r1 import SearchR1
from slime_search.transport.client import close_sessions
from tests.recipes.coda.test_coda import team
from tests.support.chat_rollouts import asking, by_chat_turn, diligent, tools_recipe
from tests.support.loopback import status
from tests.support.policies import question_number, think_answer, think_search, turns_of
from tests.support.rollouts import arguments, generate, new_sample, passage, recipe, sampling_params
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import Abort, ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

KEYS: list[tuple[dict[str, str | None], Any]] = [
    ({"reward_key": None}, lambda value: value),
    ({"reward_key": "score"}, lambda value: {"score": value}),
    ({"reward_key": "score", "eval_reward_key": "em"}, lambda value: {"em": value, "score": value}),
    ({"reward_key": None, "eval_reward_key": "em"}, lambda value: {"em": value}),
]
ESTIMATOR = {"advantage_estimator": "grpo", "rewards_normalization": True, "grpo_std_normalization": True}


def run(work: Any) -> Any:
    async def closing() -> Any:
        try:
            return await work
        finally:
            await close_sessions()

    return asyncio.run(closing())


@pytest.mark.parametrize(("keys", "form"), KEYS)
def test_every_reward_has_the_form_that_slime_reads(
    keys: Mapping[str, str | None], form: Any, qwen: Any, qwen_folder: Path
) -> None:
    def script(exchange: Any) -> Any:
        return Abort(3) if question_number(exchange.prompt) == 8 else None

    policy = turns_of(think_search("thing-7 maker"), think_answer("name-7"))
    with ScriptedEngine(qwen, policy) as engine, ScriptedRetriever(passage) as retriever:
        engine.script = script
        args = arguments(engine, qwen_folder, **ESTIMATOR, **keys)
        one = recipe(retriever)
        answered, aborted, unlabelled = new_sample(7), new_sample(8), new_sample(7, label="")
        for sample in (answered, aborted, unlabelled):
            sample.group_index = 0
        for sample in (answered, unlabelled):
            sample.reward = None
            run(one.generate(args, sample, sampling_params()))
            sample.reward = run(one.reward_func(args, sample))
        run(one.generate(args, aborted, sampling_params()))
        retriever.script = lambda lookup: status(500)
        failed = new_sample(7, group_index=0)
        run(one.generate(args, failed, sampling_params()))
    cancelled_early = LocalSample(index=9, group_index=0)
    samples = [answered, aborted, unlabelled, failed, cancelled_early]
    if keys["reward_key"]:
        assert normalize_rewards(args, samples)[0] == [1.0, 0.0, 0.0, 0.0, 0.0]
    else:
        cancelled_early.reward = form(0.0)
    assert [sample.reward for sample in samples] == [form(1.0), *[form(0.0)] * 4]
    assert [reward_number(sample.reward) for sample in samples] == [1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("reward", "number"),
    [
        *[(None, None), (1, 1.0), ({"a": 0.5}, 0.5), ({"a": 1, "b": 2}, None), ({}, None), ({"a": ""}, None)],
        ({"a": 0.5, "kind": "answered"}, 0.5),
    ],
)
def test_the_number_of_a_reward(reward: Any, number: float | None) -> None:
    assert reward_number(reward) == number


def test_every_reward_has_its_category(qwen: Any, qwen_folder: Path) -> None:
    """slime logs the share of each under ``--log-reward-category``, and looks into all samples for it."""
    with ScriptedEngine(qwen, turns_of(think_answer("name-7"))) as engine, ScriptedRetriever(passage) as retriever:
        engine.script = lambda exchange: status(500) if exchange.number > 0 else None
        args = arguments(engine, qwen_folder, reward_key="score", log_reward_category="kind")
        samples = [new_sample(7, index=0), new_sample(7, index=1)]
        one = recipe(retriever)
        for sample in samples:
            run(one.generate(args, sample, sampling_params()))
        samples[0].reward = run(one.reward_func(args, samples[0]))
    assert [sample.reward for sample in samples] == [
        {"kind": "answered", "score": 1.0},
        {"kind": "removed", "score": 0.0},
    ]


async def own_reward(args: Any, sample: LocalSample, **kwargs: Any) -> float:
    """As slime calls a data set's own function: one sample at a time."""
    return 10.0 + len(read_trajectory(sample).calls) + len(whole_rollout(sample))


def test_an_evaluation_is_scored_by_the_function_that_is_asked_tools(tokenizer: Any, checkpoint: Path) -> None:
    with ScriptedChat(tokenizer, by_chat_turn(diligent)) as engine, ScriptedRetriever(passage) as retriever:
        one, args = tools_recipe(retriever, chat={"token_in": "messages"}), arguments(engine, checkpoint)
        sample = run(one.generate(args, asking(), sampling_params(), evaluation=True))
        assert isinstance(sample, LocalSample) and sample.reward is None
        assert run(own_reward(args, sample)) == 10.0 + len(read_trajectory(sample).calls) + len(whole_rollout(sample))
        assert run(one.reward_func(args, sample)) == 1.0
        assert read_whole(whole_rollout(sample)).ending is Ending.ANSWERED


def test_an_evaluation_is_scored_by_the_function_that_is_asked_coda(qwen: Any, qwen_folder: Path) -> None:
    with ScriptedEngine(qwen, team()) as engine, ScriptedRetriever(passage) as retriever:
        one = Coda({"local": {"search_url": retriever.search_url}, "reward": {"metric": "f1"}})
        args = arguments(engine, qwen_folder, apply_chat_template=True)
        sample = run(one.generate(args, new_sample(3), sampling_params(), evaluation=True))
        assert sample.reward is None and len(whole_rollout(sample)) == 2
        assert run(own_reward(args, sample)) == 10.0 + 1 + 2
        assert run(one.reward_func(args, sample)) == pytest.approx(1.3)


def test_a_seeded_recipe_passes_the_evaluation_on() -> None:
    seen: list[Any] = []

    class Both:
        async def generate(self, args: Any, sample: Any, params: Any, evaluation: bool = False) -> Any:
            seen.append((evaluation, params["sampling_seed"]))
            return sample

        async def reward_func(self, args: Any, sample: Any) -> float:
            return 1.0

    class Plain(Both):
        async def generate(self, args: Any, sample: Any, params: Any) -> Any:  # type: ignore[override]
            seen.append(params["sampling_seed"])
            return sample

    for kind in (Both, Plain):
        for evaluation in (False, True):
            seeded = Seeded(kind(), lambda sample: 5)
            run(drive(seeded, cast(Any, None), LocalSample(), {}, evaluation=evaluation))
    assert seen == [(False, 5), (True, 5), 5, 5]


def test_a_cancelled_task_leaves_what_was_sampled_in_its_sample(
    qwen: Any, qwen_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As newer versions of slime cancel functions that declare ``abort_mode = "request"``."""
    cancelled = False
    searching = asyncio.Event()
    policy = turns_of(think_search("thing-7 maker"), think_answer("name-7"))
    with ScriptedEngine(qwen, policy) as engine, ScriptedRetriever(passage) as retriever:
        monkeypatch.setattr("slime_search.recipes.base.runtime", lambda args: Runtime(qwen, lambda: cancelled))

        class Slow(SearchR1):
            def toolbox(self, search: Any, config: Any) -> Any:
                async def wait(query: str) -> Any:
                    searching.set()
                    await asyncio.Event().wait()

                return {"search": wait}

        args, sample = arguments(engine, qwen_folder), new_sample()

        async def work() -> None:
            nonlocal cancelled
            task = asyncio.create_task(Slow({}).generate(args, sample, sampling_params()))
            await searching.wait()
            cancelled = True
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(work())
        assert (sample.status, sample.reward, sample.remove_sample) == (LocalSample.Status.ABORTED, 0.0, True)
        assert sample.response == think_search("thing-7 maker")
        cancelled = False
        (resumed,) = generate(recipe(retriever), args, [sample])
        assert (resumed.reward, len(engine.exchanges), retriever.queries) == (1.0, 2, ["thing-7 maker"])
