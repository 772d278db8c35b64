"""Nucleus and experts are there for every token of every sample, whatever became of its rollout."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slime_search.core.engine import Finish
from slime_search.core.trajectory import Ending, Owner, Segment, Trajectory
from slime_search.engines.nucleus import cut, told
from slime_search.errors import ProtocolError
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import write_back, write_back_parts
from slime_search.hooks.token_fields import told_of
from tests.support.chat_rollouts import asking, by_chat_turn, diligent, generate_all, tools_recipe
from tests.support.loopback import edited, status
from tests.support.policies import think_answer, think_search
from tests.support.rollouts import arguments, generate, new_sample, passage, recipe, sampling_params
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import Abort, ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.told_tokens import (
    EXPERTS,
    LAYERS,
    REPLAY,
    TOP_P,
    TOPK,
    expected_experts,
    expected_nuclei,
    held_nuclei,
    packed,
)
from tests.support.told_tokens import (
    told_of as told_by_the_engine,
)

Status = LocalSample.Status
SEARCH, ANSWER = think_search("thing-7 maker"), think_answer("name-7")
OPTIONS = {"rollout_top_p": 0.9, **REPLAY}


class World:
    """An engine that searches and then answers, and tells what it is asked to tell."""

    def __init__(self, engine: ScriptedEngine, retriever: ScriptedRetriever, folder: Path) -> None:
        self.engine, self.retriever, self.folder = engine, retriever, folder

    def run(self, sample: LocalSample, *, asked: dict[str, Any] = TOP_P, **config: Any) -> LocalSample:
        args = arguments(self.engine, self.folder, **OPTIONS)
        (done,) = generate(recipe(self.retriever, **config), args, [sample], sampling_params(**asked))
        return done


@pytest.fixture
def world(searching: Any, qwen_folder: Path) -> World:
    return World(*searching, qwen_folder)


def check_whole(sample: LocalSample, *, read: int) -> None:
    """``read`` tokens were sent to the engine or sampled by it."""
    assert held_nuclei(sample) == expected_nuclei(sample)
    rows = sample.rollout_routed_experts
    assert rows is not None and len(rows) == len(sample.tokens) - 1
    assert rows[: max(read - 1, 0)] == expected_experts(sample, read)
    assert {len(row) for row in rows} == {LAYERS * TOPK}
    assert {expert for row in rows for expert in row} <= set(range(EXPERTS))


def test_a_whole_rollout_holds_what_the_engine_told(world: World) -> None:
    sample = world.run(new_sample())
    assert (sample.status, sample.reward) == (Status.COMPLETED, 1.0)
    check_whole(sample, read=len(sample.tokens))


def test_an_engine_that_fails_at_once_leaves_an_empty_nucleus(world: World) -> None:
    world.engine.script = lambda exchange: status(500)
    sample = world.run(new_sample())
    assert (sample.status, sample.response_length) == (Status.FAILED, 1)
    assert held_nuclei(sample) == [[]]
    check_whole(sample, read=0)
    # slime takes a layer of zeros alone for one that the engine did not tell.
    rows = sample.rollout_routed_experts or []
    assert all(any(row[n * TOPK : (n + 1) * TOPK] for row in rows) for n in range(LAYERS))


def test_an_engine_that_fails_after_a_result_leaves_its_tokens_unread(world: World) -> None:
    world.engine.script = lambda exchange: status(500) if exchange.number > 0 else None
    sample = world.run(new_sample())
    assert sample.status is Status.FAILED and sample.response.endswith("</information>\n\n")
    first = world.engine.exchanges[0]
    check_whole(sample, read=len(first.input_ids) + len(first.output_ids))


def test_a_prompt_without_room(world: World) -> None:
    sample = world.run(new_sample(prompt="x " * 99 + new_sample().prompt), max_context_tokens=64)
    assert (sample.status, sample.response_length) == (Status.TRUNCATED, 1)
    check_whole(sample, read=0)


@pytest.mark.parametrize("tokens", [0, 3])
@pytest.mark.parametrize("turn", [0, 1])
def test_an_interrupted_rollout_is_whole_before_and_after_it_goes_on(turn: int, tokens: int, world: World) -> None:
    world.engine.script = lambda exchange: Abort(tokens) if exchange.number == turn else None
    sample = world.run(new_sample())
    assert sample.status is Status.ABORTED
    check_whole(sample, read=0)
    world.run(sample)
    assert (sample.status, sample.reward) == (Status.COMPLETED, 1.0)
    check_whole(sample, read=len(sample.tokens))


def test_an_evaluation_is_not_asked_for_a_nucleus(world: World) -> None:
    sample = world.run(new_sample(), asked={})
    assert (sample.status, sample.rollout_top_p_token_ids) == (Status.COMPLETED, None)


def test_without_the_options_nothing_is_there(world: World) -> None:
    (sample,) = generate(recipe(world.retriever), arguments(world.engine, world.folder), [new_sample()])
    assert (sample.rollout_top_p_token_ids, sample.rollout_routed_experts) == (None, None)


def without_nucleus(answer: Any) -> Any:
    answer["meta_info"] = {k: v for k, v in answer["meta_info"].items() if not k.startswith("top_p")}
    return answer


def test_an_engine_that_tells_no_nucleus_is_refused_at_its_first_answer(world: World) -> None:
    world.engine.script = lambda exchange: edited(without_nucleus)
    with pytest.raises(ProtocolError, match=r"top_p_token_ids .*--rollout-top-p.*slime's own build of SGLang"):
        world.run(new_sample())
    turns = [exchange for exchange in world.engine.exchanges if not exchange.is_probe]
    assert len(turns) == 1


def test_an_abort_that_tells_none_gives_its_tokens_up(world: World) -> None:
    def aborted(answer: Any) -> Any:
        answer["meta_info"]["finish_reason"] = {"type": "abort"}
        return without_nucleus(answer)

    world.engine.script = lambda exchange: edited(aborted) if exchange.number == 0 else None
    sample = world.run(new_sample())
    assert (sample.status, held_nuclei(sample)) == (Status.ABORTED, [[]])
    world.run(sample)
    check_whole(sample, read=len(sample.tokens))


def test_a_chat_route_tells_a_nucleus_or_is_refused(tokenizer: Any, checkpoint: Path) -> None:
    with ScriptedChat(tokenizer, by_chat_turn(diligent)) as engine, ScriptedRetriever(passage) as retriever:
        args, params = arguments(engine, checkpoint, rollout_top_p=0.9), sampling_params(**TOP_P)
        (sample,) = generate_all(tools_recipe(retriever), args, [asking()], params)
        assert held_nuclei(sample) == expected_nuclei(sample) != []

        def without(answer: Any) -> Any:
            without_nucleus(answer["choices"][0])
            return answer

        engine.script = lambda exchange: None if exchange.is_probe else edited(without)
        with pytest.raises(ProtocolError, match=r"v1/chat/completions: .*top_p_token_ids"):
            generate_all(tools_recipe(retriever), args, [asking()], params)


def segment(ids: list[int], before: list[int]) -> Segment:
    told_by_it = told_by_the_engine({"return_routed_experts": True, **TOP_P}, before, ids)
    return Segment(Owner.MODEL, ids, "", [-1.0] * len(ids), finish=Finish.STOP, meta_info=told_by_it)


def test_tokens_that_are_given_up_take_their_nucleus_with_them() -> None:
    whole = segment([5, 6, 7], [1, 2])
    assert cut(whole.meta_info, 3) is whole.meta_info
    found = told(cut(whole.meta_info, 2))
    assert found == ([5, 6, 7, 6], [0, 3, 4])
    assert cut({"id": "x"}, 2) == {"id": "x"}
    assert told({"top_p_kept_token_ids": packed([4]), "top_p_kept_token_offsets": [0, 1]}) is not None


def test_experts_are_told_once_by_the_last_answer() -> None:
    first, second = segment([5, 6], [1, 2]), segment([8], [1, 2, 5, 6, 7])
    result = Segment(Owner.WORLD, [7], "", [0.0])
    added = [first, result, second]
    assert ["routed_experts" in told_of(one, added) for one in added] == [False, False, True]
    assert "top_p_token_ids" in told_of(first, added)


def test_a_context_that_an_engine_rendered_otherwise() -> None:
    """Its turn lost a token and its result another rendering; the last answer's experts are of what is held now."""
    args = arguments_of_replay()
    trajectory = Trajectory([1, 2])
    first = segment([5, 6, 7], [1, 2])
    kept = Segment(Owner.MODEL, [5, 6], "", [-1.0] * 2, finish=Finish.STOP, meta_info=first.meta_info)
    for one in (kept, Segment(Owner.WORLD, [9, 9], "", [0.0] * 2), segment([8], [1, 2, 5, 6, 9, 9])):
        trajectory.append(one)
    trajectory.end(Ending.ANSWERED)
    sample = new_sample()
    write_back(args, sample, trajectory, known_segments=0)
    check_whole(sample, read=len(sample.tokens))


def test_each_part_of_a_forked_rollout_is_whole() -> None:
    args = arguments_of_replay()
    trajectory = Trajectory([1, 2])
    trajectory.append(segment([5, 6], [1, 2]))
    trajectory.append(Segment(Owner.WORLD, [9], "", [0.0]))
    trajectory.fork([1, 3])
    trajectory.append(segment([8], [1, 3]))
    trajectory.end(Ending.ANSWERED)
    first, second = write_back_parts(args, new_sample(), trajectory)
    check_whole(first, read=4)
    check_whole(second, read=len(second.tokens))


def arguments_of_replay() -> Any:
    return SimpleNamespace(**OPTIONS)
