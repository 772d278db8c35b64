"""``--custom-rollout-log-function-path``: what a search agent did, beside slime's own rollout metrics."""

import logging
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from slime_search.core.trajectory import UNSCORED
from slime_search.hooks.called_off import complete
from slime_search.hooks.contract import Args, Sample
from slime_search.hooks.distillation import DISTILLATION_KEY
from slime_search.hooks.facts import EXECUTOR, facts_of
from slime_search.hooks.samples import RECORD_KEY, SECONDS_KEY, record_of, role_of, rollouts_of
from slime_search.rewards.labels import gold_answers
from slime_search.rewards.text import cover_exact_match

logger = logging.getLogger(__name__)

PREFIX = "search/"
DISTILLATION_PREFIX = "distill/"
_SCORES = ("em", "f1", "cover_em", "well_formed", "retrieval_hit", "searched", "answered")


def log_rollout(
    rollout_id: int, args: Args, samples: Sequence[Sample], extra: MutableMapping[str, Any] | None, rollout_time: float
) -> bool:
    """Adds ``rollout_metrics`` to what slime is about to log (W&B, TensorBoard, its log), and lets it log.

    slime's own metrics are of every sample's reward, so those that were called off are completed before.

    Returns:
        False, so that slime's own metrics are logged too.
    """
    complete(args, samples)
    _add(f"rollout {rollout_id}", rollout_metrics(samples), extra)
    return False


def log_eval(
    rollout_id: int, args: Args, data: Mapping[str, Mapping[str, Any]], extra: MutableMapping[str, Any] | None
) -> bool:
    """``--custom-eval-rollout-log-function-path``: the same for each evaluation set, as ``eval/NAME/search/…``.

    slime's own evaluation brings no ``extra`` to add to, and what is not in it reaches neither W&B nor TensorBoard.
    Then slime's function is called once more, with one.

    Returns:
        Whether all is logged; False lets slime log its own metrics and what was added.
    """
    again = _slimes_eval_log() if extra is None else None
    if again is not None:
        again(rollout_id, args, data, {})
        return True
    for name, results in data.items():
        metrics = rollout_metrics(results.get("samples") or ())
        _add(f"eval {rollout_id}", {f"eval/{name}/{key}": value for key, value in metrics.items()}, extra)
    return False


def rollout_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Metrics of finished samples, each a mean over rollouts unless its name says otherwise.

    Scores are those of the reward and leave failed and aborted rollouts out. ``valid_actions`` is the share of whole
    turns that held a valid action. ``truncated`` is the share of rollouts that a token budget ended, ``out_of_turns``
    of those whose model wanted to act after its last allowed action. ``observation_tokens`` is counted a rollout,
    ``latency_p50`` and ``latency_p95`` are seconds a search with queueing and retries. ``drift`` is the share of
    rollouts that an engine rendered other than they were held. ``cache_hits`` is the share of searches that were known
    already, where the search tells, and ``page/OUTCOME`` the share of web pages that ended so: ``page/read``, or by the
    reason why the snippet stood for the page.
    """
    ours = [rollout for rollout in rollouts_of(samples) if all(map(record_of, rollout))]
    if not ours:
        return {}
    rollouts = [facts_of(rollout) for rollout in ours]
    drifts = [rollout[-1].metadata[RECORD_KEY]["drift"] for rollout in ours]
    scores = [rollout.score for rollout in rollouts if rollout.is_scored and rollout.score]
    validity = [is_valid for rollout in rollouts for is_valid in rollout.validity]

    def share(ending: str) -> float:
        return statistics.fmean(rollout.ending == ending for rollout in rollouts)

    metrics = {name: statistics.fmean(score[name] for score in scores) for name in _SCORES} if scores else {}
    metrics |= {
        "searches": statistics.fmean(rollout.searches for rollout in rollouts),
        "turns": statistics.fmean(rollout.turns for rollout in rollouts),
        "valid_actions": statistics.fmean(validity) if validity else 0.0,
        "observation_tokens": statistics.fmean(rollout.world_tokens for rollout in rollouts),
        "truncated": share("truncated"),
        "out_of_turns": share("out_of_turns"),
        "aborted": share("aborted"),
        "failed": share("failed"),
        "drift": statistics.fmean(bool(drift["realigned"] or drift["forked"]) for drift in drifts),
        "lost_tokens": statistics.fmean(drift["lost_tokens"] for drift in drifts),
    }
    latencies_s = [latency_s for rollout in rollouts for latency_s in rollout.latencies_s]
    if latencies_s:
        cuts = statistics.quantiles([*latencies_s, latencies_s[-1]], n=20, method="inclusive")
        metrics |= {"latency_p50": statistics.median(latencies_s), "latency_p95": cuts[-1]}
    metrics |= _search_metrics(ours) | searcher_metrics(samples) | coda_metrics(samples)
    return {f"{PREFIX}{name}": float(value) for name, value in metrics.items()} | distillation_metrics(samples)


def _search_metrics(rollouts: Sequence[Sequence[Sample]]) -> dict[str, float]:
    """What searches tell of themselves: whether the answer was known, and what became of web pages."""
    calls = [call for samples in rollouts for sample in samples for call in sample.metadata[RECORD_KEY]["calls"]]
    cached = [call["details"]["cached"] for call in calls if "cached" in call["details"]]
    metrics = {"cache_hits": statistics.fmean(cached)} if cached else {}
    pages: Counter[str] = Counter()
    for call in calls:
        pages.update(call["details"].get("pages", {}))
    return metrics | {f"page/{outcome.replace(' ', '_')}": n / pages.total() for outcome, n in pages.items()}


def searcher_metrics(samples: Sequence[Sample]) -> dict[str, float]:
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
    details = [call["details"] for call, _ in asked]
    return metrics | {
        "delegation_depth": statistics.fmean(len(session["turns"]) for session in details),
        "searcher_queries": statistics.fmean(len(session["queries"]) for session in details),
        "searcher_answered": statistics.fmean(session["answer"] is not None for session in details),
        "searcher_success": statistics.fmean(_succeeded(call["details"], sample) for call, sample in asked),
        "searcher_model_s": statistics.fmean(session["seconds"]["model"] for session in details),
        "searcher_search_s": statistics.fmean(session["seconds"]["search"] for session in details),
        "searcher_wait_s": statistics.fmean(c["latency_s"] - c["details"]["seconds"]["total"] for c, _ in asked),
    }


def _is_finished_thinker(sample: Sample) -> bool:
    record = record_of(sample)
    return SECONDS_KEY in record and record["ending"] not in UNSCORED


def _succeeded(details: Mapping[str, Any], sample: Sample) -> float:
    answer = details["answer"]
    return 0.0 if answer is None else cover_exact_match(answer, gold_answers(sample.label))


def thinker_seconds_of(sample: Sample) -> float:
    """How long its Thinker itself was at work in earlier rollouts; 0.0 for a new sample."""
    return float(record_of(sample).get(SECONDS_KEY, 0.0))


def keep_thinker_seconds(sample: Sample, seconds: float) -> None:
    """Leaves them in the record that ``write_back`` has made."""
    sample.metadata[RECORD_KEY][SECONDS_KEY] = seconds


def coda_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Metrics of delegated tasks, empty where none of ``samples`` has a role.

    ``tasks`` and ``executor_tokens`` are counted a rollout, ``tasks_solved`` is the share of tasks that an executor
    answered. ``executors_well_formed`` and ``refined`` are PECO's parts. Failed and aborted rollouts do not count.
    """
    rollouts = [
        rollout
        for rollout in rollouts_of(samples)
        if role_of(rollout[-1]) and "score" in rollout[-1].metadata[RECORD_KEY] and not rollout[-1].remove_sample
    ]
    if not rollouts:
        return {}
    scores = [rollout[-1].metadata[RECORD_KEY]["score"] for rollout in rollouts]
    executors = [sample for rollout in rollouts for sample in rollout if role_of(sample) == EXECUTOR]
    metrics = {
        "tasks": len(executors) / len(rollouts),
        "executor_tokens": sum(sample.response_length for sample in executors) / len(rollouts),
        "executors_well_formed": statistics.fmean(score["executors_well_formed"] for score in scores),
        "refined": statistics.fmean(score["refined"] for score in scores),
    }
    if executors:
        answered = (sample.metadata[RECORD_KEY]["ending"] == "answered" for sample in executors)
        metrics["tasks_solved"] = statistics.fmean(answered)
    return metrics


def distillation_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Metrics of the samples that a teacher was asked about; none where there are no such samples.

    ``aligned`` is the share of trained tokens of which the teacher says something, ``kl`` the mean over those of
    ``log p_student - log q_teacher`` before clipping, in nats, which estimates the divergence of the student from the
    teacher. ``failures`` is the share of samples that the teacher failed, ``remembered`` that of the teacher's tokens
    whose scores were known before.
    """
    records = [record_of(sample)[DISTILLATION_KEY] for sample in samples if DISTILLATION_KEY in record_of(sample)]
    if not records:
        return {}
    answered = [record for record in records if record["error"] is None]
    tokens, aligned, asked = (sum(record[key] for record in answered) for key in ("tokens", "aligned", "asked"))
    metrics = {"failures": 1 - len(answered) / len(records)}
    if tokens:
        metrics["aligned"] = aligned / tokens
    if aligned:
        metrics["kl"] = math.fsum(record["gap"] for record in answered) / aligned
    if asked:
        metrics["remembered"] = sum(record["remembered"] for record in answered) / asked
    return {f"{DISTILLATION_PREFIX}{name}": value for name, value in metrics.items()}


def _slimes_eval_log() -> Callable[..., Any] | None:
    """What calls ``log_eval`` in slime; None in versions that have it elsewhere."""
    try:
        from slime.observability.rollout_metrics import log_eval_rollout_data
    except ImportError:
        return None
    found: Callable[..., Any] = log_eval_rollout_data
    return found


def _add(what: str, metrics: Mapping[str, float], extra: MutableMapping[str, Any] | None) -> None:
    if extra is None:
        # A rollout function of the user's own that returns no metrics leaves no place to add any.
        logger.info("%s: %s", what, metrics)
    else:
        extra.update(metrics)
