"""The recipe with a teacher over real HTTP: what every sample carries, also when the teacher fails."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from slime_search.errors import ConfigError, DataError, SlimeSearchError, TooManyFailures
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.distillation import normalize_rewards
from slime_search.hooks.metrics import distillation_metrics, rollout_metrics
from slime_search.recipes.distillation.recipe import SearchDistillation, SearchTool
from tests.support.chat_rollouts import asking, by_chat_turn, diligent, generate_all, turns_of_sample
from tests.support.loopback import status
from tests.support.policies import question_number
from tests.support.rollouts import arguments, passage, sampling_params
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import Abort
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.scripted_teacher import ScriptedTeacher, opinion
from tests.support.teacher_tokenizers import save_kind

STICKY = {"router_policy": "consistent_hashing"}


@pytest.fixture(scope="module")
def checkpoint(kind_folders: dict[str, Path]) -> Path:
    return kind_folders["byte-level"]


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Any:
    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_kind(tmp_path_factory.mktemp("other"), "byte-level, other cuts", family="llama3")


@pytest.fixture(scope="module")
def other(other_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(other_folder)


@pytest.fixture
def retriever() -> Iterator[ScriptedRetriever]:
    with ScriptedRetriever(passage) as running:
        yield running


@pytest.fixture
def engine(tokenizer: Any) -> Iterator[ScriptedChat]:
    with ScriptedChat(tokenizer, by_chat_turn(diligent)) as running:
        yield running


def recipe(retriever: ScriptedRetriever, teacher: ScriptedTeacher, **teacher_config: Any) -> SearchDistillation:
    asked = {"url": teacher.url, "attempts": 1, "max_failure_share": 1.0, **teacher_config}
    searched = {"retrieval_service_url": retriever.search_url, "search_attempts": 2, "engine_attempts": 2}
    return SearchDistillation({**searched, "max_failure_share": 1.0, "teacher": asked})


def told(sample: LocalSample) -> list[float]:
    values = sample.teacher_log_probs
    assert values is not None
    assert len(values) == sample.response_length and all(map(math.isfinite, values))
    return values


def note(sample: LocalSample) -> dict[str, Any]:
    found: dict[str, Any] = sample.metadata["slime_search"]["distillation"]
    return found


def rows(sample: LocalSample) -> list[tuple[int, int, float, float]]:
    """Place in the tokens, mask, the policy's log-probability and the teacher's, a response token each."""
    assert sample.loss_mask is not None and sample.rollout_log_probs is not None
    first = len(sample.tokens) - sample.response_length
    return list(
        zip(range(first, len(sample.tokens)), sample.loss_mask, sample.rollout_log_probs, told(sample), strict=True)
    )


def test_a_teacher_with_the_same_tokenizer_is_sent_the_policys_tokens(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    with ScriptedTeacher(tokenizer) as teacher:
        samples = generate_all(
            recipe(retriever, teacher), arguments(engine, checkpoint), [asking(n) for n in range(12)]
        )
        prompts = [tuple(ids) for request in teacher.prompts for ids in request]
    for sample in samples:
        assert tuple(sample.tokens) in prompts
        for place, mask, own, theirs in rows(sample):
            assert theirs == (opinion(*sample.tokens[place - 1 : place + 1]) if mask else own)
        assert note(sample)["aligned"] == note(sample)["tokens"] == sum(sample.loss_mask or [])
        assert sample.reward == 1.0
    assert rollout_metrics(samples)["distill/aligned"] == 1.0
    gaps = [own - theirs for sample in samples for _, mask, own, theirs in rows(sample) if mask]
    assert distillation_metrics(samples)["distill/kl"] == pytest.approx(math.fsum(gaps) / len(gaps))


def test_a_teacher_of_another_family_reads_its_own_template(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, other: Any, other_folder: Path
) -> None:
    with ScriptedTeacher(other, style="vllm") as teacher:
        one = recipe(retriever, teacher, tokenizer=str(other_folder))
        (sample,) = generate_all(one, arguments(engine, checkpoint), [asking()])
        (prompt,) = teacher.prompts[-1]
    text = other.decode(prompt)
    assert text.startswith("<|begin_of_text|>")
    assert '{"name": "search", "parameters": {"query": "thing-7 maker"}}<|eot_id|>' in text
    assert "It was made by name-7 long ago." in text and text.endswith("<answer> name-7 </answer><|eot_id|>")
    differs = [own != theirs for _, mask, own, theirs in rows(sample) if mask]
    assert sum(differs) == note(sample)["aligned"]
    assert 0.4 < note(sample)["aligned"] / note(sample)["tokens"] < 1
    assert all(own == theirs for _, mask, own, theirs in rows(sample) if not mask)


def test_a_sample_that_the_teacher_fails_is_left_on_its_reward(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    with ScriptedTeacher(tokenizer) as teacher:
        teacher.script = lambda prompts: status(500) if "thing-3" in tokenizer.decode(prompts[0]) else None
        samples = generate_all(recipe(retriever, teacher), arguments(engine, checkpoint), [asking(n) for n in range(5)])
    failed = samples[3]
    assert told(failed) == failed.rollout_log_probs and failed.reward == 1.0 and not failed.remove_sample
    assert "teacher at http" in note(failed)["error"]
    assert [note(s)["error"] is None for s in samples] == [True, True, True, False, True]
    assert distillation_metrics(samples)["distill/failures"] == pytest.approx(0.2)


def test_a_teacher_that_fails_too_many_stops_the_run(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    with ScriptedTeacher(tokenizer, longest=100) as teacher:
        one = recipe(retriever, teacher, max_failure_share=0.25)
        args = arguments(engine, checkpoint, rollout_batch_size=2, n_samples_per_prompt=4)
        with pytest.raises(TooManyFailures, match=r"because of the teacher.*teacher\.max_failure_share"):
            generate_all(one, args, [asking(n) for n in range(8)])


@pytest.mark.parametrize("style", ["text", "sglang"])
def test_before_anything_is_generated_the_teacher_is_asked(
    style: Any, engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, other: Any
) -> None:
    with ScriptedTeacher(other, style=style) as teacher, pytest.raises(SlimeSearchError, match="teacher"):
        generate_all(recipe(retriever, teacher), arguments(engine, checkpoint), [asking()])
    assert not engine.exchanges


def test_every_sample_hears_of_a_tokenizer_that_is_not_there(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """slime shows any one of those that fail together, and a second try may come in the same process."""
    with ScriptedTeacher(tokenizer) as teacher:
        one = recipe(retriever, teacher, tokenizer=str(tmp_path / "none"))
        for number in (1, 2):
            with pytest.raises(ConfigError, match="no tokenizer there"):
                generate_all(one, arguments(engine, checkpoint), [asking(number)])


def test_a_text_prompt_is_refused_where_messages_are_needed(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, other: Any, other_folder: Path
) -> None:
    with ScriptedTeacher(other) as teacher, pytest.raises(DataError, match="Leave out --apply-chat-template"):
        one = recipe(retriever, teacher, tokenizer=str(other_folder))
        generate_all(one, arguments(engine, checkpoint), [asking(prompt="Who made thing-7?")])


def test_a_failed_search_needs_no_teacher(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    retriever.script = lambda request: status(500)
    with ScriptedTeacher(tokenizer) as teacher:
        (sample,) = generate_all(recipe(retriever, teacher), arguments(engine, checkpoint), [asking()])
        assert len(teacher.requests) == 2, "only the probe"
    assert told(sample) == sample.rollout_log_probs and sample.remove_sample
    assert distillation_metrics([sample]) == {}


def test_an_engine_that_fails_leaves_a_placeholder_with_one_value(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    engine.script = lambda e: status(500) if question_number(e.prompt) == 7 and e not in engine.probes else None
    with ScriptedTeacher(tokenizer) as teacher:
        (sample,) = generate_all(recipe(retriever, teacher), arguments(engine, checkpoint), [asking()])
    assert told(sample) == [0.0]


def break_off_once(engine: ScriptedChat) -> None:
    """The first turn ends after nine tokens."""
    faults = [Abort(9)]
    engine.script = lambda e: faults.pop() if faults and e not in engine.probes else None


def test_an_interrupted_sample_is_scored_when_it_is_whole(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    break_off_once(engine)
    with ScriptedTeacher(tokenizer) as teacher:
        one, args, sample = recipe(retriever, teacher), arguments(engine, checkpoint), asking()
        generate_all(one, args, [sample])
        assert sample.status is LocalSample.Status.ABORTED and told(sample) == sample.rollout_log_probs
        assert len(teacher.requests) == 2
        generate_all(one, args, [sample])
    assert sample.status is LocalSample.Status.COMPLETED
    assert all(theirs == opinion(*sample.tokens[at - 1 : at + 1]) for at, mask, _, theirs in rows(sample) if mask)


def test_tokens_that_are_no_longer_trained_do_not_count(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    """slime's mask_offpolicy_in_partial_rollout."""
    break_off_once(engine)
    with ScriptedTeacher(tokenizer) as teacher:
        one, args, sample = recipe(retriever, teacher), arguments(engine, checkpoint), asking()
        generate_all(one, args, [sample])
        sample.loss_mask = [0] * (kept := sample.response_length)
        generate_all(one, args, [sample])
    assert kept == 9 and note(sample)["aligned"] == note(sample)["tokens"] == sum(sample.loss_mask or [])
    assert distillation_metrics([sample])["distill/aligned"] == 1.0
    assert all(own == theirs for _, mask, own, theirs in rows(sample) if not mask)


def test_an_evaluation_does_without_the_teacher(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    import asyncio

    from slime_search.transport.client import close_sessions

    async def evaluate(one: SearchDistillation) -> Any:
        try:
            return await one.generate(arguments(engine, checkpoint), asking(), sampling_params(), evaluation=True)
        finally:
            await close_sessions()

    with ScriptedTeacher(tokenizer) as teacher:
        sample = asyncio.run(evaluate(recipe(retriever, teacher)))
        assert teacher.requests == [] and sample.status is LocalSample.Status.COMPLETED


@pytest.mark.parametrize("teacher_has", ["the policy's tokenizer", "another"])
def test_every_part_of_a_forked_trajectory_is_scored(
    teacher_has: str, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any, other: Any, other_folder: Path
) -> None:
    """A server that renders messages and tokenises otherwise: one rollout, several samples."""
    own = teacher_has == "the policy's tokenizer"
    with (
        ScriptedChat(tokenizer, by_chat_turn(diligent), takes_ids=False, style="vllm") as engine,
        ScriptedTeacher(tokenizer if own else other) as teacher,
    ):
        one = recipe(retriever, teacher, tokenizer=None if own else str(other_folder))
        results = generate_all(one, arguments(engine, checkpoint, **STICKY), [asking(n) for n in range(8)])
        parts = [part for result in results for part in result]
        assert len(parts) > 8, "nothing forked"
        assert all(turns_of_sample(engine, part) for part in parts)
    for part in parts:
        scored = [place for place, mask, mine, theirs in rows(part) if mask and mine != theirs]
        assert len(scored) == note(part)["aligned"] > 0
        if own:
            assert len(scored) == sum(part.loss_mask)


def test_the_term_is_clipped_and_the_worst_tokens_are_kept(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    with ScriptedTeacher(tokenizer) as teacher:
        one = recipe(retriever, teacher, clip=0.5, disagreements=3)
        (sample,) = generate_all(one, arguments(engine, checkpoint), [asking()])
    gaps = {}
    for place, mask, own, theirs in rows(sample):
        gap = own - opinion(*sample.tokens[place - 1 : place + 1])
        assert own - theirs == pytest.approx(max(-0.5, min(0.5, gap)) if mask else 0.0)
        gaps[place - len(sample.tokens) + sample.response_length] = gap if mask else 0.0
    worst = sorted(gaps, key=lambda place: -abs(gaps[place]))[:3]
    kept = note(sample)["disagreements"]
    assert [row["place"] for row in kept] == worst
    for row in kept:
        assert row["student"] - row["teacher"] == pytest.approx(gaps[row["place"]])
        at = len(sample.tokens) - sample.response_length + row["place"]
        assert row["text"] == tokenizer.decode([sample.tokens[at]])


def test_without_a_teacher_the_same_tool_is_trained_by_grpo_alone(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path
) -> None:
    one = SearchTool({"retrieval_service_url": retriever.search_url, "search_topk": 5, "max_steps": 10})
    (sample,) = generate_all(one, arguments(engine, checkpoint), [asking()])
    assert sample.reward == 1.0 and sample.teacher_log_probs is None
    (lookup,) = retriever.lookups
    assert lookup.body["topk"] == 5


def test_after_the_rollout_every_sample_has_its_values(
    engine: ScriptedChat, retriever: ScriptedRetriever, checkpoint: Path, tokenizer: Any
) -> None:
    """Also one that slime called off before it was generated."""
    args = arguments(
        engine, checkpoint, advantage_estimator="grpo", rewards_normalization=True, grpo_std_normalization=False
    )
    with ScriptedTeacher(tokenizer) as teacher:
        samples = generate_all(recipe(retriever, teacher), args, [asking(n, group_index=0) for n in range(3)])
    samples[1].reward = 0.0
    called_off = LocalSample(index=9, group_index=0, prompt=asking(9).prompt)
    raw, normalised = normalize_rewards(args, [*samples, called_off])
    assert raw == [1.0, 0.0, 1.0, 0.0]
    assert normalised == pytest.approx([1 / 3, -2 / 3, 1 / 3, 0.0])
    assert [len(told(s)) for s in (*samples, called_off)] == [*(s.response_length for s in samples), 1]
