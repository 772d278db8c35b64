"""What an evaluation's numbers are made of."""

import random

import pytest

from slime_search.evaluation.scores import METRICS, values_of
from slime_search.evaluation.summary import summarize
from tests.evaluation.scored_rollouts import failed, rollout, scored


def test_means_are_of_questions_and_then_of_data_sets() -> None:
    summary = summarize([*scored(1, 0, 0, 0, source="nq"), *scored(1, 1, source="popqa")], ["nq", "popqa"], seed=0)
    assert summary.sets["nq"].metrics["em"].mean == 0.25
    assert summary.sets["popqa"].metrics["em"].mean == 1.0
    assert summary.average is not None
    assert summary.average.metrics["em"].mean == 0.625
    assert summary.average.questions == 6
    assert {name: one.mean for name, one in summary.sets["popqa"].metrics.items()} == dict(
        zip(METRICS, (1, 1, 1, 1, 1, 3), strict=True)
    )


def test_samples_of_a_question_are_averaged_first() -> None:
    samples = [rollout(0, 0, em=1), rollout(0, 1, em=0), rollout(1, 0, em=0), failed(1, id="nq/1/1")]
    one = summarize((sample.facts for sample in samples), ["nq"], seed=0).sets["nq"]
    assert one.metrics["em"].mean == 0.25
    assert (one.questions, one.rollouts, one.failed) == (2, 4, 1)


def test_what_infrastructure_failed_is_counted_apart_and_never_scored() -> None:
    broken = [failed(2), failed(3, "engine"), rollout(4, ending="aborted", score={})]
    one = summarize([*scored(1, 0), *(lost.facts for lost in broken)], ["nq"], seed=0).sets["nq"]
    assert one.metrics["em"].mean == 0.5
    assert (one.questions, one.rollouts, one.failed) == (2, 5, 3)
    assert one.services == {"retriever": 1, "engine": 2}


def test_the_service_is_that_of_the_record_whatever_the_error_says() -> None:
    error = "executor 2: engine at http://127.0.0.1:1/generate: HTTP 500"
    assert failed(error=error).facts.failed_by == "retriever"
    assert failed(failed_service=None).facts.failed_by == "unknown"


def test_a_set_without_a_scored_question_has_no_numbers_and_no_average() -> None:
    summary = summarize([*scored(1), failed(0, source="popqa").facts], ["nq", "popqa"], seed=0)
    assert summary.sets["popqa"].metrics == {}
    assert summary.average is None
    assert summary.as_json()["data_sets"]["popqa"]["failed"] == 1


def test_latencies_are_of_scored_rollouts() -> None:
    slow = [rollout(place, wall_s=float(place + 1)).facts for place in range(100)]
    one = summarize([*slow, failed(100, wall_s=1000.0).facts], ["nq"], seed=0).sets["nq"]
    assert one.latency_p50_s == pytest.approx(50.5)
    assert one.latency_p95_s == pytest.approx(95.05)


def test_the_order_in_which_rollouts_finished_changes_nothing() -> None:
    made = [*scored(*(place % 2 for place in range(30))), *scored(1, 0, 1, source="popqa")]
    told = summarize(made, ["nq", "popqa"], seed=0).as_json()
    random.Random(0).shuffle(made)
    assert summarize(made, ["nq", "popqa"], seed=0).as_json() == told


def test_a_planners_tasks_are_no_searches() -> None:
    call = {"turn": 0, "query": "q", "passages": (), "latency_s": 0.1}
    segments = ({"owner": "model", "trained": True, "tokens": ("a", "b")},)
    executor = {"role": "executor", "ending": "answered", "answer": "x", "segments": segments}
    planner = {**executor, "role": "planner", "calls": [{**call, "tool": "task", "details": {"executor": 0}}]}
    executor["calls"] = [{**call, "tool": "search"}, {**call, "tool": "search"}]
    facts = rollout(delegates=True, runs=[executor, planner]).facts
    assert dict(zip(METRICS, values_of(facts), strict=True))["searches"] == 2
    assert dict(zip(METRICS, values_of(facts), strict=True))["response_tokens"] == 4
    assert facts.delegated is True
