"""A trajectory as plain JSON beside the arrays that hold its tokens, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from slime_search.core.engine import Finish
from slime_search.core.tool import Passage
from slime_search.core.trajectory import CallRecord, Drift, Ending, Owner, Segment, Trajectory
from slime_search.errors import DataError


def to_record(trajectory: Trajectory) -> dict[str, Any]:
    """What, with the token ids and log-probabilities kept elsewhere, rebuilds a trajectory of one context."""
    drift = trajectory.drift
    return {
        "segments": [
            {
                "owner": s.owner.value,
                "length": len(s.token_ids),
                "text": s.text,
                "finish": s.finish.value if s.finish else None,
                "is_correction": s.is_correction,
                "results": list(s.results),
                "is_valid": s.is_valid,
                **({"opened": s.opened} if s.opened else {}),
            }
            for s in trajectory.segments
        ],
        "calls": [_call_record(call) for call in trajectory.calls],
        "ending": trajectory.ending.value if trajectory.ending else None,
        "answer": trajectory.answer,
        "error": trajectory.error,
        "failed_service": trajectory.failed_service,
        "drift": {"realigned": drift.realigned, "forked": drift.forked, "lost_tokens": drift.lost_tokens},
    }


def from_record(record: Mapping[str, Any], token_ids: Sequence[int], log_probs: Sequence[float] | None) -> Trajectory:
    """Rebuilds what ``to_record`` described.

    Args:
        token_ids: prompt and response.
        log_probs: one value a response token, or None.

    Raises:
        DataError: the record and the arrays disagree about the number of tokens.
    """
    response_length = sum(s["length"] for s in record["segments"])
    prompt_length = len(token_ids) - response_length
    if prompt_length < 0 or (log_probs is not None and len(log_probs) != response_length):
        raise DataError(
            f"record: segments hold {response_length} tokens, but there are {len(token_ids)} token ids and "
            f"{'no' if log_probs is None else len(log_probs)} log-probabilities"
        )
    trajectory = Trajectory(token_ids[:prompt_length])
    start = 0
    for s in record["segments"]:
        end = start + s["length"]
        trajectory.append(
            Segment(
                Owner(s["owner"]),
                list(token_ids[prompt_length + start : prompt_length + end]),
                s["text"],
                None if log_probs is None else list(log_probs[start:end]),
                finish=Finish(s["finish"]) if s["finish"] else None,
                is_correction=s["is_correction"],
                results=tuple(s["results"]),
                # Records of earlier versions have no such key.
                is_valid=s.get("is_valid"),
                opened=s.get("opened", ""),
            )
        )
        start = end
    trajectory.calls = [
        CallRecord(**{**c, "passages": tuple(Passage(**p) for p in c["passages"])}) for c in record["calls"]
    ]
    trajectory.ending = Ending(record["ending"]) if record["ending"] else None
    trajectory.answer, trajectory.error = record["answer"], record["error"]
    trajectory.failed_service = record["failed_service"]
    trajectory.drift = Drift(**record["drift"])
    return trajectory


def _call_record(call: CallRecord) -> dict[str, Any]:
    """Written out, since dataclasses.asdict copies each passage through and through."""
    return {
        "turn": call.turn,
        "tool": call.tool,
        "query": call.query,
        "passages": [{"title": p.title, "text": p.text} for p in call.passages],
        "latency_s": call.latency_s,
        "details": dict(call.details),
    }
