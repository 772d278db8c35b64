"""Recipes on engines outside slime: endpoints, records, question sets, and many rollouts at once."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from slime_search.data.questions import Question
from slime_search.engines.endpoint import Endpoint
from slime_search.errors import ConfigError, DataError
from slime_search.evaluation.questions import read_question_set
from slime_search.evaluation.target import Target, open_target
from slime_search.hooks.driving import Finished, drive_all, sampling_params
from slime_search.records.from_samples import rollout_record
from slime_search.records.rollout import read_rollout
from slime_search.transport.client import close_sessions
from tests.support.policies import by_turn, question_number, spoken_turns, think_answer, think_search
from tests.support.rollouts import passage
from tests.support.scripted_completions import ScriptedCompletions
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

TOKEN = "a-token-that-nobody-may-see"


def diligent(context: str) -> str:
    number = question_number(context)
    return think_answer(f"name-{number}") if spoken_turns(context) else think_search(f"thing-{number} maker")


def question(number: int) -> Question:
    messages = [{"role": "user", "content": f"Who made thing-{number}?"}]
    return Question("made", f"made/{number}", f"Who made thing-{number}?", (f"name-{number}",), messages)


@pytest.fixture
def retriever() -> Any:
    with ScriptedRetriever(passage) as running:
        yield running


@pytest.fixture
def engine(qwen: Any) -> Any:
    with ScriptedEngine(qwen, by_turn(diligent)) as running:
        yield running


def target(endpoint: Endpoint, folder: Path, retriever: ScriptedRetriever, **config: Any) -> Target:
    settings = {"local": {"search_url": retriever.search_url}, "search_attempts": 1, "engine_attempts": 1, **config}
    return open_target("search-r1", endpoint, tokenizer=str(folder), config=settings, concurrency=4)


def rolled_out(who: Target, count: int, *, concurrency: int = 4) -> dict[int, Finished]:
    async def run() -> dict[int, Finished]:
        samples = (who.sample(question(number)) for number in range(count))
        params = sampling_params(temperature=1.0, max_new_tokens=200)
        try:
            driven = drive_all(who.recipe, who.args, samples, params, concurrency=concurrency)
            return {place: finished async for place, finished in driven}
        finally:
            await close_sessions()

    return asyncio.run(run())


def test_a_recipe_runs_on_any_engine_of_sglangs_route(
    engine: ScriptedEngine, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    who = target(Endpoint(f"{engine.url}/", token=TOKEN), qwen_folder, retriever)
    finished = rolled_out(who, 9)
    assert sorted(finished) == list(range(9))
    assert [one.samples[-1].reward for one in finished.values()] == [1.0] * 9
    assert {exchange.headers["Authorization"] for exchange in engine.exchanges} == {f"Bearer {TOKEN}"}
    assert TOKEN not in repr(who)


def test_an_openai_server_without_ids_is_good_enough_to_evaluate(
    qwen: Any, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    with ScriptedCompletions(qwen, by_turn(diligent), tells_stop="stop_reason") as server:
        endpoint = Endpoint(server.url, "completions", "some-model", TOKEN)
        (finished,) = rolled_out(target(endpoint, qwen_folder, retriever), 1).values()
    assert finished.samples[-1].reward == 1.0
    assert finished.samples[-1].rollout_log_probs is None
    assert {body["model"] for body in server.bodies} == {"some-model"}
    assert set(server.tokens) == {f"Bearer {TOKEN}"}


def test_no_more_rollouts_than_asked_for_are_on_their_way(
    engine: ScriptedEngine, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    begun = 0

    def counted(context: str) -> str:
        nonlocal begun
        begun += 1
        return diligent(context)

    engine_policy: Callable[[str], str] = by_turn(counted)
    engine._policy = engine_policy

    async def first() -> int:
        who = target(Endpoint(engine.url), qwen_folder, retriever)
        read = 0

        def samples() -> Any:
            nonlocal read
            for number in range(1_000_000):
                read += 1
                yield who.sample(question(number))

        driven = drive_all(
            who.recipe, who.args, samples(), sampling_params(temperature=1.0, max_new_tokens=200), concurrency=3
        )
        try:
            async for _ in driven:
                break
            await driven.aclose()
            return read
        finally:
            await close_sessions()

    assert asyncio.run(first()) <= 3


def test_a_rollout_that_raises_stops_the_others(
    engine: ScriptedEngine, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    who = target(Endpoint(engine.url), qwen_folder, retriever)
    broken = who.sample(question(1))
    broken.response_length = 1

    async def run() -> None:
        others = [who.sample(question(2)), who.sample(question(3))]
        params = sampling_params(temperature=1.0, max_new_tokens=200)
        try:
            async for _ in drive_all(who.recipe, who.args, [others[0], broken, others[1]], params, concurrency=2):
                pass
        finally:
            await close_sessions()

    with pytest.raises(DataError, match="Another generate function wrote it"):
        asyncio.run(run())


def test_a_record_says_who_wrote_each_token(
    engine: ScriptedEngine, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    who = target(Endpoint(engine.url), qwen_folder, retriever)
    (finished,) = rolled_out(who, 1).values()
    (sample,) = finished.samples
    record = rollout_record(finished.samples, who.codec, id="made/0#0", group="made/0", recipe=who.name, wall_s=1.5)
    (run,) = record.runs
    assert [segment.owner for segment in run.segments] == ["prompt", "model", "world", "model"]
    assert [i for segment in run.segments for i in segment.token_ids or ()] == sample.tokens
    trained = [segment.trained for segment in run.segments[1:] for _ in segment.tokens]
    assert trained == [bool(value) for value in sample.loss_mask]
    scored = [value for segment in run.segments if segment.log_probs for value in segment.log_probs]
    expected = [v for v, mask in zip(sample.rollout_log_probs, sample.loss_mask, strict=True) if mask]
    assert scored == pytest.approx(expected, abs=1e-5)
    assert (record.question, record.gold_answers, record.answer) == ("Who made thing-0?", ("name-0",), "name-0")
    assert (record.reward, record.score["em"], record.ending, record.source) == (1.0, 1.0, "answered", "made")
    (call,) = record.runs[-1].calls
    assert (call.query, call.passages[0].title) == ("thing-0 maker", "About thing-0")
    assert read_rollout(orjson.loads(record.line())) == record


def test_a_removed_sample_is_shown_untrained(
    engine: ScriptedEngine, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    who = target(Endpoint(engine.url), qwen_folder, retriever)
    (finished,) = rolled_out(who, 1).values()
    finished.samples[0].remove_sample = True
    record = rollout_record(finished.samples, who.codec, id="0", group="0")
    assert not any(segment.trained for segment in record.runs[0].segments)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"runs": []}, "rollout.runs: "),
        ({"ending": "happily"}, "rollout.ending: .*'happily'"),
        ({"question": None}, "rollout.question: "),
        ({"wall_s": -1}, "rollout.wall_s: "),
    ],
)
def test_a_record_that_is_none_is_refused_by_field(change: dict[str, Any], words: str) -> None:
    run = {"ending": "answered", "answer": "x", "segments": []}
    good = {"id": "0", "group": "0", "question": "Who?", "answer": "x", "ending": "answered", "runs": [run]}
    assert read_rollout(good).answer == "x"
    with pytest.raises(DataError, match=words):
        read_rollout(good | change)


@pytest.mark.parametrize("log_probs", [[-1.0], [float("nan"), -1.0]])
def test_log_probs_that_fit_no_token_are_refused(log_probs: list[float]) -> None:
    segment = {"owner": "model", "trained": True, "tokens": ["a", "b"], "log_probs": log_probs}
    run = {"ending": "answered", "answer": "x", "segments": [segment]}
    with pytest.raises(DataError, match=r"rollout.runs\[0\].segments\[0\]: .*log_probs"):
        read_rollout({"id": "0", "group": "0", "question": "Who?", "answer": "x", "ending": "answered", "runs": [run]})


def test_questions_come_from_prepared_files_and_from_flashrags_own(tmp_path: Path) -> None:
    rows = [
        {"id": "test_0", "question": "who made it", "golden_answers": ["Ann", "Anna"]},
        {"question": "Who?", "prompt": [{"role": "user", "content": "Q: Who?"}], "reward_model": {"target": "Bo"}},
        {"messages": [{"role": "user", "content": "Which?"}], "label": '["C"]', "metadata": {"question": "Which?"}},
    ]
    path = tmp_path / "nq.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second, third = read_question_set(path)
    assert (first.id, first.source, first.text, first.answers) == ("nq/0", "nq", "who made it", ("Ann", "Anna"))
    assert first.messages is None
    assert second.messages == [{"role": "user", "content": "Q: Who?"}] and second.answers == ("Bo",)
    assert (third.text, third.answers) == ("Which?", ("C",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ('{"golden_answers": ["x"]}\n', "line 1: question: none of .* holds a text"),
        ('{"question": "Who?"}\n', "line 1: answers: none of"),
        ("not json\n", "line 1: not JSON"),
    ],
)
def test_a_file_without_questions_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_question_set(path)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_question_set(tmp_path / "absent.jsonl")


def test_a_recipe_that_does_not_exist_is_refused(qwen_folder: Path) -> None:
    with pytest.raises(ConfigError, match="'search-r2' is not one of search-r1, "):
        open_target("search-r2", Endpoint("http://x"), tokenizer=str(qwen_folder), config={}, concurrency=1)
