"""Held-out scores of the current weights."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slime_search.hooks.samples import RECORD_KEY, read_trajectory, rollouts_of
from slime_search.tokens import TokenCodec
from slime_search.trajectory import Ending


@dataclass(frozen=True, slots=True)
class RolloutStats:
    """Means over rollouts: ``em`` … ``failed`` are shares, the rest counts a rollout.

    ``em_two_hops`` is of the questions that take two facts, ``searches`` are the calls of the answering agent.
    """

    n: int
    em: float
    em_two_hops: float
    reward: float
    answered: float
    well_formed: float
    retrieval_hit: float
    truncated: float
    failed: float
    searches: float
    response_tokens: float


def rollout_stats(samples: Sequence[Any]) -> RolloutStats:
    """Summarises finished rollouts; those that failed count in ``failed`` and nowhere else."""
    # The last sample of a rollout is the one that answers.
    rollouts = [rollout[-1] for rollout in rollouts_of(samples)]
    live = [sample for sample in rollouts if not sample.remove_sample]
    scores = [sample.metadata[RECORD_KEY]["score"] for sample in live]
    records = [sample.metadata[RECORD_KEY] for sample in live]

    def mean(values: Sequence[float]) -> float:
        return round(statistics.fmean(values), 4) if values else 0.0

    return RolloutStats(
        n=len(live),
        em=mean([s["em"] for s in scores]),
        em_two_hops=mean([s["em"] for s, sample in zip(scores, live, strict=True) if sample.metadata["hops"] == 2]),
        reward=mean([sample.reward for sample in live]),
        answered=mean([s["answered"] for s in scores]),
        well_formed=mean([s["well_formed"] for s in scores]),
        retrieval_hit=mean([s["retrieval_hit"] for s in scores]),
        truncated=mean([float(r["ending"] in (Ending.TRUNCATED, Ending.OUT_OF_TURNS)) for r in records]),
        failed=mean([float(sample.remove_sample) for sample in rollouts]),
        searches=mean([len(r["calls"]) for r in records]),
        response_tokens=mean([sample.response_length for sample in live]),
    )


def trajectory_record(sample: Any, codec: TokenCodec, *, stage: str) -> dict[str, Any]:
    """One sample as the report page reads it: JSON with every token's text, owner and log-probability."""
    trajectory = read_trajectory(sample)
    record = sample.metadata[RECORD_KEY]
    segments: list[dict[str, Any]] = [
        {"owner": "prompt", "trained": False, "tokens": codec.pieces(trajectory.prompt_ids), "log_probs": None}
    ]
    for segment in trajectory.segments:
        is_model = segment.owner == "model"
        segments.append(
            {
                "owner": segment.owner.value,
                "trained": is_model and not sample.remove_sample,
                "tokens": codec.pieces(segment.token_ids),
                "log_probs": [round(x, 4) for x in segment.log_probs] if is_model and segment.log_probs else None,
            }
        )
    return {
        "stage": stage,
        "question": sample.metadata["question"],
        "gold_answers": list(sample.label["ground_truth"]["target"]),
        "answer": trajectory.answer,
        "reward": sample.reward,
        "em": record["score"]["em"] if "score" in record else 0.0,
        "ending": record["ending"],
        "searches": [
            {"query": c["query"], "passages": c["passages"], "latency_s": round(c["latency_s"], 4)}
            for c in record["calls"]
        ],
        "segments": segments,
    }
