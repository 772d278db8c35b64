"""What Searchers did for their Thinkers, beside the metrics of every search agent."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from slime_search.hooks.samples import RECORD_KEY
from slime_search.rewards.labels import gold_answers
from slime_search.rewards.text import cover_exact_match
from slime_search.trajectory import UNSCORED

SECONDS_KEY = "thinker_s"


def thinker_seconds_of(sample: Any) -> float:
    """How long its Thinker itself was at work in earlier rollouts; 0.0 for a new sample."""
    return float(((sample.metadata or {}).get(RECORD_KEY) or {}).get(SECONDS_KEY, 0.0))


def keep_thinker_seconds(sample: Any, seconds: float) -> None:
    """Leaves them in the record that ``write_back`` has made."""
    sample.metadata[RECORD_KEY][SECONDS_KEY] = seconds


def searcher_metrics(samples: Sequence[Any]) -> dict[str, float]:
    """Metrics of delegated questions, empty where none of ``samples`` has a Thinker.

    ``delegation_depth`` is the Searcher's turns a question and ``searcher_queries`` its searches.
    ``searcher_answered`` is the share of questions with an answer, ``searcher_success`` the share whose answer holds a
    gold answer of what the Thinker was asked. The stages are mean seconds: ``thinker_s`` a rollout, the others a
    question; ``searcher_wait_s`` is what is left of a call, on the way and in queues. Failed and aborted rollouts do
    not count.
    """
    finished = [sample for sample in samples if _is_finished_thinker(sample)]
    if not finished:
        return {}
    metrics = {"thinker_s": statistics.fmean(map(thinker_seconds_of, finished))}
    asked = [(call, sample) for sample in finished for call in sample.metadata[RECORD_KEY]["calls"]]
    if not asked:
        return metrics
    told = [call["details"] for call, _ in asked]
    return metrics | {
        "delegation_depth": statistics.fmean(len(one["turns"]) for one in told),
        "searcher_queries": statistics.fmean(len(one["queries"]) for one in told),
        "searcher_answered": statistics.fmean(one["answer"] is not None for one in told),
        "searcher_success": statistics.fmean(_succeeded(call["details"], sample) for call, sample in asked),
        "searcher_model_s": statistics.fmean(one["seconds"]["model"] for one in told),
        "searcher_search_s": statistics.fmean(one["seconds"]["search"] for one in told),
        "searcher_wait_s": statistics.fmean(c["latency_s"] - c["details"]["seconds"]["total"] for c, _ in asked),
    }


def _is_finished_thinker(sample: Any) -> bool:
    record: Mapping[str, Any] = (sample.metadata or {}).get(RECORD_KEY) or {}
    return SECONDS_KEY in record and record["ending"] not in UNSCORED


def _succeeded(details: Mapping[str, Any], sample: Any) -> float:
    answer = details["answer"]
    return 0.0 if answer is None else cover_exact_match(answer, gold_answers(sample.label))
