"""What slime gets to log about a rollout."""

import math
import sys
from types import ModuleType
from typing import Any

import pytest

from slime_search.hooks.contract import LocalSample
from slime_search.hooks.metrics import PREFIX, log_eval, log_rollout, rollout_metrics
from slime_search.hooks.samples import RECORD_KEY


def sample(
    ending: str = "answered",
    *,
    em: float = 1.0,
    latencies_s: tuple[float, ...] = (0.1,),
    details: dict[str, Any] | None = None,
    corrections: int = 0,
    last_valid: bool | None = True,
    drift: tuple[int, int, int] = (0, 0, 0),
    rollout_id: int | None = None,
) -> LocalSample:
    turn = {"owner": "model", "length": 5, "is_correction": False, "is_valid": True}
    tools = [turn, {"owner": "world", "length": 20, "is_correction": False}] * len(latencies_s)
    wrong = [{**turn, "is_valid": False}, {"owner": "world", "length": 4, "is_correction": True}] * corrections
    names = ("f1", "cover_em", "well_formed", "retrieval_hit", "searched", "answered")
    record: dict[str, Any] = {
        "segments": [*tools, *wrong, {**turn, "is_valid": last_valid}],
        "calls": [{"latency_s": latency_s, "details": details or {}} for latency_s in latencies_s],
        "ending": ending,
        "answer": None,
        "error": None,
        "failed_service": None,
        "score": {"em": em, **dict.fromkeys(names, 0.5)},
        "drift": dict(zip(("realigned", "forked", "lost_tokens"), drift, strict=True)),
    }
    return LocalSample(rollout_id=rollout_id, metadata={RECORD_KEY: record})


def test_means_are_taken_over_rollouts() -> None:
    metrics = rollout_metrics(
        [
            sample(em=1.0, latencies_s=(0.1, 0.3)),
            sample(em=0.0, latencies_s=(), corrections=1),
            sample("failed", em=0.0, latencies_s=(0.2,)),
            sample("truncated", em=0.0, drift=(0, 1, 3), last_valid=False),
            sample("out_of_turns", em=0.0, last_valid=False),
            sample("aborted", em=0.0, latencies_s=(), last_valid=None),
        ]
    )
    expected = {
        "em": 1 / 4,
        "f1": 0.5,
        "searches": 5 / 6,
        "turns": (3 + 2 + 2 + 2 + 2 + 1) / 6,
        "valid_actions": 1 - 3 / 11,
        "observation_tokens": (40 + 4 + 20 + 20 + 20 + 0) / 6,
        "truncated": 1 / 6,
        "out_of_turns": 1 / 6,
        "failed": 1 / 6,
        "aborted": 1 / 6,
        "drift": 1 / 6,
        "lost_tokens": 0.5,
        "latency_p50": 0.1,
    }
    assert {name: metrics[PREFIX + name] for name in expected} == pytest.approx(expected)
    assert 0.2 < metrics[PREFIX + "latency_p95"] <= 0.3


def test_what_a_search_tells_of_itself_is_counted_where_it_tells() -> None:
    told = [
        sample(latencies_s=(0.1, 0.1), details={"cached": True, "pages": {"read": 2, "HTTP 4xx": 1}}),
        sample(details={"cached": False, "pages": {"too slow": 2}}),
        sample(details={"cached": True, "pages": {}}),
        sample(),
    ]
    metrics = rollout_metrics(told)
    expected = {"cache_hits": 3 / 4, "page/read": 4 / 8, "page/HTTP_4xx": 2 / 8, "page/too_slow": 2 / 8}
    assert {name: metrics[PREFIX + name] for name in expected} == pytest.approx(expected)
    silent = rollout_metrics([sample()])
    assert not [name for name in silent if "cache" in name or "page" in name]


def test_a_forked_rollout_counts_once() -> None:
    forked = [sample(rollout_id=7, drift=(0, 0, 0)), sample(rollout_id=7, drift=(0, 1, 0))]
    metrics = rollout_metrics([*forked, sample(rollout_id=8)])
    assert metrics[PREFIX + "drift"] == pytest.approx(1 / 2)
    assert metrics[PREFIX + "searches"] == pytest.approx(3 / 2)


def test_nothing_of_ours_gives_nothing_and_nothing_is_never_nan() -> None:
    assert rollout_metrics([]) == {}
    assert rollout_metrics([LocalSample()]) == {}
    assert all(map(math.isfinite, rollout_metrics([sample("failed", latencies_s=())]).values()))


def test_slime_logs_them_with_its_own(caplog: pytest.LogCaptureFixture) -> None:
    extra: dict[str, Any] = {"rollout/dropped": 1}
    rewarded = sample()
    rewarded.reward = 1.0
    assert log_rollout(3, None, [rewarded], extra, 1.0) is False
    assert extra["rollout/dropped"] == 1 and extra["search/em"] == 1.0
    assert log_eval(3, None, {"nq": {"rewards": [1.0], "samples": [sample()]}, "bare": {"rewards": []}}, extra) is False
    assert extra["eval/nq/search/em"] == 1.0
    with caplog.at_level("INFO"):
        assert log_rollout(3, None, [rewarded], None, 1.0) is False
    assert "search/em" in caplog.text


def test_an_evaluation_that_brings_no_place_for_metrics_is_logged_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """slime's own evaluation passes None, and what is only in the text log reaches neither W&B nor TensorBoard."""
    logged: list[dict[str, Any]] = []

    def log_eval_rollout_data(rollout_id: int, args: Any, data: Any, extra: dict[str, Any] | None = None) -> None:
        if not log_eval(rollout_id, args, data, extra):
            logged.append(extra or {})

    module = ModuleType("slime.observability.rollout_metrics")
    module.log_eval_rollout_data = log_eval_rollout_data  # type: ignore[attr-defined]
    for name in ("slime", "slime.observability"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    log_eval_rollout_data(3, None, {"nq": {"rewards": [1.0], "samples": [sample()]}})
    assert [metrics["eval/nq/search/em"] for metrics in logged] == [1.0]


def test_a_slime_that_logs_evaluations_elsewhere_has_them_in_its_text_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "slime.observability.rollout_metrics", None)
    with caplog.at_level("INFO"):
        assert log_eval(3, None, {"nq": {"rewards": [1.0], "samples": [sample()]}}, None) is False
    assert "eval/nq/search/em" in caplog.text
