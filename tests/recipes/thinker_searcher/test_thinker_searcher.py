"""The Thinker–Searcher recipe from prompt to reward, over real HTTP."""

import time
from pathlib import Path
from typing import Any

import pytest

from slime_search.errors import ConfigError
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.metrics import rollout_metrics
from slime_search.hooks.samples import RECORD_KEY
from slime_search.recipes.thinker_searcher.client import NO_ANSWER
from slime_search.recipes.thinker_searcher.recipe import ThinkerSearcher
from tests.support.loopback import status
from tests.support.policies import think_search, turns_of
from tests.support.rollouts import arguments, generate, new_sample
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.scripted_searcher import ScriptedSearcher
from tests.support.thinkers import in_a_sentence, in_process, thinker
from tests.support.training_view import training_view

Status = LocalSample.Status


def test_only_what_the_thinker_sampled_is_trained_on(
    engine: ScriptedEngine, searcher: ScriptedSearcher, qwen: Any, qwen_folder: Path
) -> None:
    args = arguments(engine, qwen_folder, router_policy="consistent_hashing")
    samples = [new_sample(n, session_id=f"session-{n}") for n in range(12)]
    generate(thinker(searcher), args, samples)
    for number, sample in enumerate(samples):
        own = [e for e in engine.exchanges if e.headers.get("X-SMG-Routing-Key") == sample.session_id]
        view = training_view(own)
        (read,) = view.world
        assert qwen.decode(read) == f"\n\n<information>It was made by name-{number}.</information>\n\n"
        assert (sample.tokens, sample.loss_mask) == (view.tokens, view.loss_mask)
        assert sample.rollout_log_probs == view.log_probs
        assert (sample.reward, sample.status) == (1.0, Status.COMPLETED)
    assert sorted(searcher.questions) == sorted(f"Who made thing-{n}?" for n in range(12))


def test_the_searcher_beside_the_thinker_on_slimes_second_model(
    engine: ScriptedEngine, frozen: ScriptedEngine, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    args = arguments(engine, qwen_folder, sglang_model_routers={"searcher": ("127.0.0.1", frozen.port)})
    (sample,) = generate(in_process(retriever, qwen_folder), args, [new_sample()])
    view = training_view(engine.exchanges)
    assert (sample.reward, sample.tokens, sample.loss_mask) == (1.0, view.tokens, view.loss_mask)
    # The Searcher's own turns are exact extensions of each other, too, and none of them is in the sample.
    training_view(frozen.exchanges)
    assert [e.sampling_params["temperature"] for e in frozen.exchanges] == [0.0, 0.0]
    assert "search up to 3 times" in frozen.exchanges[0].prompt
    assert frozen.exchanges[0].prompt.endswith("Question: Who made thing-7?\n<|im_end|>\n<|im_start|>assistant\n")
    assert retriever.queries == ["thing-7 maker"]
    (call,) = sample.metadata[RECORD_KEY]["calls"]
    assert call["details"]["answer"] == "thing-7 was made by name-7."
    assert call["details"]["queries"] == ["thing-7 maker"]
    assert [passage["title"] for passage in call["passages"]] == ["About thing-7"]
    assert "maker" not in sample.response.partition("</information>")[0].partition("<information>")[2]


def test_a_second_model_that_slime_does_not_serve_is_refused(
    engine: ScriptedEngine, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    args = arguments(engine, qwen_folder, sglang_model_routers={"default": ("127.0.0.1", engine.port)})
    with pytest.raises(ConfigError, match=r"searcher_model = 'searcher': .*it serves default"):
        generate(in_process(retriever, qwen_folder), args, [new_sample()])


def test_a_searcher_that_gives_no_answer_is_no_failure(engine: ScriptedEngine, qwen_folder: Path) -> None:
    with ScriptedSearcher(lambda question: None) as searcher:
        (sample,) = generate(thinker(searcher), arguments(engine, qwen_folder), [new_sample()])
    assert (sample.reward, sample.status) == (1.0, Status.COMPLETED)
    assert f"<information>{NO_ANSWER}</information>" in sample.response
    assert sample.metadata[RECORD_KEY]["calls"][0]["details"]["ending"] == "out_of_turns"


def test_the_limits_of_both_are_their_own(searcher: ScriptedSearcher, qwen: Any, qwen_folder: Path) -> None:
    policy = turns_of(think_search("thing-7 once"), think_search("thing-7 twice"), think_search("thing-7 thrice"))
    with ScriptedEngine(qwen, policy) as engine:
        one = thinker(searcher, thinker_max_turns=2, searcher_max_turns=5)
        (sample,) = generate(one, arguments(engine, qwen_folder), [new_sample()])
    assert (sample.status, len(searcher.asked)) == (Status.TRUNCATED, 2)
    assert [question.body["max_turns"] for question in searcher.asked] == [5, 5]


BAD = {
    "a key of another recipe": ({"max_turns": 3}, "max_turns: .*set thinker_max_turns and searcher_max_turns"),
    "a key that is none": ({"thinker_max_turn": 3}, "did you mean 'thinker_max_turns'"),
    "no URL": ({"searcher_url": "127.0.0.1:8001"}, "searcher_url = '127.0.0.1:8001': .*not a whole URL"),
    "a prompt without its place": ({"searcher_prompt": "Answer."}, "searcher_prompt = 'Answer.': write {question}"),
    "a model without a tokenizer": ({"searcher_model": "searcher"}, "searcher_checkpoint: .*tokenizer"),
}


@pytest.mark.parametrize(("config", "complaint"), BAD.values(), ids=BAD)
def test_a_wrong_configuration_is_refused(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ThinkerSearcher(config)


def test_the_environment_sets_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIME_SEARCH_THINKER_MAX_TURNS", "4")
    monkeypatch.setenv("SLIME_SEARCH_SEARCHER_URL", "http://a:1/search,http://b:1/search")
    config = ThinkerSearcher({}).config()
    assert isinstance(config, ThinkerSearcher.config_class)
    assert (config.thinker_max_turns, config.searcher_urls) == (4, ("http://a:1/search", "http://b:1/search"))


def test_what_slime_gets_to_log(engine: ScriptedEngine, qwen_folder: Path) -> None:
    began = time.perf_counter()
    with ScriptedSearcher(lambda question: None if "thing-3" in question else in_a_sentence(question)) as searcher:
        samples = generate(thinker(searcher), arguments(engine, qwen_folder), [new_sample(n) for n in range(4)])
        searcher.script = lambda question: status(500)
        samples += generate(thinker(searcher), arguments(engine, qwen_folder), [new_sample(5)])
    elapsed_s = time.perf_counter() - began
    samples[0].label = "somebody else"
    metrics = {name.removeprefix("search/"): value for name, value in rollout_metrics(samples).items()}
    expected = {
        "failed": 1 / 5,
        "delegation_depth": 2.0,
        "searcher_queries": 1.0,
        "searcher_answered": 3 / 4,
        "searcher_success": 2 / 4,
        "searcher_model_s": 0.2,
        "searcher_search_s": 0.1,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert metrics["searches"] == 4 / 5
    assert 0 < metrics["thinker_s"] < elapsed_s
    # The Searcher says that it took 0.3 s of the call.
    assert -0.3 < metrics["searcher_wait_s"] < elapsed_s - 0.3


def test_every_turn_is_told_where_that_is_asked_for(
    engine: ScriptedEngine, searcher: ScriptedSearcher, qwen_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        generate(thinker(searcher, log_turns=True), arguments(engine, qwen_folder), [new_sample()])
    told = [record.getMessage() for record in caplog.records if record.name.startswith("slime_search.recipes")]
    banner, asks, reads, answers = told
    for words in ("Thinker–Searcher", str(qwen_folder), "up to 2 questions", searcher.search_url, "up to 3 searches"):
        assert words in banner
    assert asks == "Thinker 7, turn 1 of 2 (1 active), asks 'Who made thing-7?'"
    assert reads.startswith("Thinker 7 reads after ")
    assert reads.endswith(" s, 2 turns and 1 searches of the Searcher: 'It was made by name-7.'")
    assert answers == "Thinker 7 answers 'name-7'"


def test_at_scale_there_is_a_summary_now_and_then(
    engine: ScriptedEngine,
    searcher: ScriptedSearcher,
    qwen_folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    args, one = arguments(engine, qwen_folder), thinker(searcher)
    with caplog.at_level("INFO"):
        generate(one, args, [new_sample(n) for n in range(8)])
        assert len(caplog.records) == 1, "the banner alone"
        monkeypatch.setattr("slime_search.recipes.thinker_searcher.log.SUMMARY_EVERY_S", 0.0)
        generate(one, args, [new_sample(9)])
    assert "in the last" in caplog.records[-1].getMessage()
    assert "9 delegated, 9 answered, 0 left open, 0 failed" in caplog.records[-1].getMessage()
