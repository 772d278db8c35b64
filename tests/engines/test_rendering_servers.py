"""The tool-calling recipe against servers that render the conversation themselves, and not as it was sampled."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from slime_search.errors import ConfigError, DataError, ProtocolError
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import PART_KEY, RECORD_KEY
from slime_search.transport.client import close_sessions
from tests.support.chat_rollouts import (
    asking,
    by_chat_turn,
    call,
    generate_all,
    sampled_by,
    tools_recipe,
    trained_in,
    turns_of_sample,
)
from tests.support.chat_templates import FAMILIES
from tests.support.loopback import status
from tests.support.policies import question_number
from tests.support.rollouts import arguments, sampling_params
from tests.support.scripted_chat import ScriptedChat, Tokenise, spelled_out
from tests.support.scripted_engine import Abort
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.training_view import training_view

Status = LocalSample.Status
STICKY = {"router_policy": "consistent_hashing"}


def two_searches(number: int, context: str) -> str:
    thing = question_number(context)
    if number < 2:
        return (
            f"I look up part {number} of it, since I do not know it.\n{call(f'thing-{thing}, part {number}')}<|im_end|>"
        )
    return f"The passages say it: <answer> name-{thing} </answer><|im_end|>"


@pytest.fixture
def checkpoint(family_folders: dict[str, Path]) -> Path:
    return family_folders["qwen2.5"]


@pytest.fixture
def tokenizer(families: dict[str, Any]) -> Any:
    return families["qwen2.5"]


def rollouts(
    tokenizer: Any,
    checkpoint: Path,
    retriever: ScriptedRetriever,
    tokenise: Tokenise | None,
    samples: list[LocalSample],
    *,
    policy: Any = two_searches,
    style: Any = "vllm",
) -> tuple[ScriptedChat, list[list[LocalSample]]]:
    with ScriptedChat(tokenizer, by_chat_turn(policy), takes_ids=False, style=style, tokenise=tokenise) as engine:
        args = arguments(engine, checkpoint, **STICKY)
        results = generate_all(tools_recipe(retriever), args, samples)
    assert len(engine.probes) == 1
    assert all("input_ids" not in exchange.body for exchange in engine.turns)
    return engine, results


def check_trained(engine: ScriptedChat, parts: list[LocalSample]) -> None:
    """Every token of mask 1 is the engine's, in the context that it was sampled in, and none is there twice."""
    own = turns_of_sample(engine, parts[0])
    trained, sampled = trained_in(parts), sampled_by(own)
    assert len({log_prob for *_, log_prob in trained}) == len(trained) > 0
    assert set(trained) <= sampled
    drift = parts[-1].metadata[RECORD_KEY]["drift"]
    assert len(sampled) - len(trained) == drift["lost_tokens"]
    assert drift["forked"] == len(parts) - 1
    assert [p.metadata[RECORD_KEY][PART_KEY] for p in parts] == list(range(len(parts)))
    assert {(p.rollout_id, p.index, p.group_index, p.reward, p.status) for p in parts} == {
        (parts[0].index, parts[0].index, parts[0].group_index, 1.0, Status.COMPLETED)
    }


@pytest.mark.parametrize("style", ["sglang", "vllm"])
def test_a_rendering_of_what_was_sampled_is_one_exact_sample(
    style: Any, tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    samples = [asking(n) for n in range(8)]
    engine, results = rollouts(tokenizer, checkpoint, retriever, tokenizer.encode, samples, style=style)
    for parts in results:
        check_trained(engine, parts)
        (sample,) = parts
        view = training_view(turns_of_sample(engine, sample))
        assert (sample.tokens, sample.loss_mask, sample.rollout_log_probs) == (
            view.tokens,
            view.loss_mask,
            view.log_probs,
        )
        assert sample.metadata[RECORD_KEY]["drift"] == {"realigned": 0, "forked": 0, "lost_tokens": 0}
    assert all(original.tokens == [] and original.rollout_id is None for original in samples)


def test_a_difference_at_the_end_of_a_turn_is_realigned(
    tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    samples = [asking(n) for n in range(4)]
    engine, results = rollouts(tokenizer, checkpoint, retriever, spelled_out(tokenizer, 3), samples)
    for parts in results:
        check_trained(engine, parts)
        (sample,) = parts
        drift = sample.metadata[RECORD_KEY]["drift"]
        assert drift["realigned"] == 2 and 2 < drift["lost_tokens"] <= 32
        # What the last request was conditioned on, and what it sampled, is the sample.
        last = turns_of_sample(engine, sample)[-1]
        assert sample.tokens == last.input_ids + last.output_ids


def test_a_difference_further_back_is_forked(tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever) -> None:
    samples = [asking(n) for n in range(4)]
    engine, results = rollouts(tokenizer, checkpoint, retriever, None, samples)
    for parts in results:
        check_trained(engine, parts)
        assert len(parts) == 3
        for part, exchange in zip(parts, turns_of_sample(engine, parts[0]), strict=True):
            assert part.tokens[: len(part.tokens) - part.response_length] == exchange.input_ids
        queries = [[c["query"] for c in p.metadata[RECORD_KEY]["calls"]] for p in parts]
        thing = parts[0].index
        assert queries == [[f"thing-{thing}, part 0"], [f"thing-{thing}, part 1"], []]
        assert [p.metadata[RECORD_KEY]["answer"] for p in parts] == [None, None, f"name-{thing}"]


def test_an_evaluation_counts_a_forked_rollout_once(
    tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    async def evaluated(args: Any) -> Any:
        recipe = tools_recipe(retriever)
        try:
            sample = await recipe.generate(args, asking(), sampling_params(), evaluation=True)
            sample.reward = await recipe.reward_func(args, sample)
            return sample
        finally:
            await close_sessions()

    with ScriptedChat(tokenizer, by_chat_turn(two_searches), takes_ids=False, style="vllm") as engine:
        sample = asyncio.run(evaluated(arguments(engine, checkpoint)))
    assert isinstance(sample, LocalSample)
    assert (sample.reward, sample.status) == (1.0, Status.COMPLETED)
    assert sample.metadata[RECORD_KEY]["score"]["retrieval_hit"] == 1.0  # found in the first part
    assert sample.metadata[RECORD_KEY]["drift"]["forked"] == 2


def test_a_template_that_drops_thoughts_forks(
    families: dict[str, Any], family_folders: dict[str, Path], retriever: ScriptedRetriever
) -> None:
    """Qwen3's rewrites the blanks around a thought, and so the first tokens of a turn."""

    def thinks(number: int, context: str) -> str:
        return f"<think> hm </think>\n{two_searches(number, context)}"

    tokenizer = families["qwen3"]
    engine, (parts,) = rollouts(
        tokenizer, family_folders["qwen3"], retriever, tokenizer.encode, [asking()], policy=thinks
    )
    check_trained(engine, parts)
    assert len(parts) == 3


def test_every_family_can_be_rendered_by_its_server(
    families: dict[str, Any], family_folders: dict[str, Path], retriever: ScriptedRetriever
) -> None:
    for name, family in FAMILIES.items():
        tokenizer = families[name]

        def turn(number: int, context: str, end: str = family.end) -> str:
            return two_searches(number, context).replace("<|im_end|>", end)

        policy = by_chat_turn(turn, family.begin)
        with ScriptedChat(tokenizer, policy, takes_ids=False, style="vllm", tokenise=tokenizer.encode) as engine:
            args = arguments(engine, family_folders[name], **STICKY)
            (parts,) = generate_all(tools_recipe(retriever), args, [asking()])
            check_trained(engine, parts)


def test_what_a_server_that_renders_can_not_have_is_refused(
    tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    with ScriptedChat(tokenizer, by_chat_turn(two_searches), takes_ids=False, style="vllm") as engine:
        args = arguments(engine, checkpoint)
        with pytest.raises(DataError, match=r"sample 7: the prompt is text.*Leave out --apply-chat-template"):
            generate_all(tools_recipe(retriever), args, [asking(prompt="Who made thing-7?")])
        args.partial_rollout = True
        with pytest.raises(ConfigError, match=r"--partial-rollout.*leave the flag out"):
            generate_all(tools_recipe(retriever), args, [asking()])
        args.partial_rollout, args.log_passrate = False, True
        with pytest.raises(ConfigError, match=r"--log-passrate: .*server renders messages itself"):
            generate_all(tools_recipe(retriever), args, [asking()])


def test_a_server_that_renders_and_does_not_tell_what_is_refused(
    tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    with ScriptedChat(tokenizer, by_chat_turn(two_searches), takes_ids=False, style="patched") as engine:
        for token_in in ("auto", "messages"):
            with pytest.raises(ProtocolError, match=rf"{engine.url}.*prompt_token_ids.*SGLang"):
                one = tools_recipe(retriever, chat={"token_in": token_in})
                generate_all(one, arguments(engine, checkpoint), [asking()])


def test_messages_can_be_asked_for_where_ids_would_do(
    tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    one = tools_recipe(retriever, chat={"token_in": "messages"})
    with ScriptedChat(tokenizer, by_chat_turn(two_searches), tokenise=tokenizer.encode) as engine:
        (parts,) = generate_all(one, arguments(engine, checkpoint, **STICKY), [asking()])
        check_trained(engine, parts)
    assert engine.probes == [] and len(parts) == 1


@pytest.mark.parametrize("aborted", [False, True])
def test_all_parts_of_an_interrupted_rollout_are_masked(
    aborted: bool, tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    with ScriptedChat(tokenizer, by_chat_turn(two_searches), takes_ids=False, style="vllm") as engine:
        if aborted:
            engine.script = lambda e: Abort(3) if len(engine.turns) == 2 else None
        else:
            engine.script = lambda e: status(500) if len(engine.turns) == 2 else None
        (parts,) = generate_all(tools_recipe(retriever), arguments(engine, checkpoint, **STICKY), [asking()])
    assert len(parts) == 3 if aborted else 2
    expected = Status.ABORTED if aborted else Status.FAILED
    assert {(p.status, p.reward, p.remove_sample, p.rollout_id) for p in parts} == {(expected, 0.0, True, 7)}


def test_a_server_that_refuses_the_conversation_fails_the_sample(
    tokenizer: Any, checkpoint: Path, retriever: ScriptedRetriever
) -> None:
    with ScriptedChat(tokenizer, by_chat_turn(two_searches), takes_ids=False, style="vllm") as engine:
        engine.script = lambda e: status(400, "roles must alternate") if len(engine.turns) == 1 else None
        (parts,) = generate_all(tools_recipe(retriever), arguments(engine, checkpoint), [asking()])
    assert {p.status for p in parts} == {Status.FAILED}
    assert "roles must alternate" in parts[-1].metadata[RECORD_KEY]["error"]
