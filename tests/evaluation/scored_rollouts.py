"""Rollouts of invented questions, without any engine."""

from typing import Any

from slime_search.hooks.facts import RolloutFacts
from slime_search.records.rollout import Rollout


def rollout(place: int = 0, number: int = 0, source: str = "nq", em: float = 1.0, **fields: Any) -> Rollout:
    """An attempt at question ``place``, scored ``em`` by every metric unless ``fields`` say otherwise."""
    call = {"turn": 0, "tool": "search", "query": "q", "passages": (), "latency_s": 0.1, "details": {}}
    segments = (
        {"owner": "prompt", "trained": False, "tokens": ("Who", "?")},
        {"owner": "model", "trained": True, "tokens": ("a", "b", "c")},
        {"owner": "world", "trained": False, "tokens": ("x",) * 7},
    )
    defaults = {
        "id": f"{source}/{place}/{number}",
        "group": f"{source}/{place}",
        "recipe": "search-r1",
        "source": source,
        "question": f"Who is {place}?",
        "gold_answers": ("somebody",),
        "answer": "somebody" if em else "nobody",
        "ending": "answered",
        "score": {"reward": em, "em": em, "f1": em, "cover_em": em, "retrieval_hit": em},
        "wall_s": 1.0,
        "runs": [{"ending": "answered", "answer": "somebody", "segments": segments, "calls": [call]}],
    }
    return Rollout.model_validate({**defaults, **fields})


def failed(place: int = 0, service: str = "retriever", **fields: Any) -> Rollout:
    error = f"{service} at http://127.0.0.1:1/retrieve: HTTP 500 (after 4 attempts)"
    lost = {"ending": "failed", "error": error, "failed_service": service}
    return rollout(place, **{**lost, "score": {}, "reward": 0.0, "answer": None, **fields})


def scored(*ems: float, source: str = "nq", **fields: Any) -> list[RolloutFacts]:
    """One sample a question, in order."""
    return [rollout(place, source=source, em=em, **fields).facts for place, em in enumerate(ems)]
