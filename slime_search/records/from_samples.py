"""From the samples that slime trains on to a record that people read."""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

from slime_search.core.trajectory import CallRecord, Owner, Trajectory
from slime_search.hooks.distillation import DISTILLATION_KEY
from slime_search.hooks.facts import can_delegate, gold_of, question_of
from slime_search.hooks.samples import RECORD_KEY, read_trajectory, role_of
from slime_search.records.rollout import Call, Disagreement, Passage, Rollout, Run, Segment


class Decoder(Protocol):
    """Gives the text of each token on its own, as ``TokenCodec`` does."""

    def pieces(self, token_ids: Sequence[int]) -> list[str]: ...


def rollout_record(
    samples: Sequence[Any],
    codec: Decoder,
    *,
    id: str,
    group: str,
    recipe: str = "",
    stage: str = "",
    advantages: Sequence[float] | None = None,
    wall_s: float | None = None,
) -> Rollout:
    """One rollout's samples, in the order in which the recipe returned them.

    Args:
        codec: decodes the tokens.
        id: unique among the rollouts of a file.
        group: the same for all attempts at one question.
        advantages: one a sample.

    Raises:
        DataError: another generate function wrote the samples.
    """
    last = samples[-1]
    runs = tuple(
        _run(sample, codec, None if advantages is None else advantages[position])
        for position, sample in enumerate(samples)
    )
    record, metadata = last.metadata[RECORD_KEY], last.metadata
    return Rollout(
        id=id,
        group=group,
        recipe=recipe,
        source=metadata.get("data_source") or "",
        stage=stage,
        question=question_of(last),
        gold_answers=gold_of(last),
        answer=record["answer"],
        ending=record["ending"],
        error=record["error"],
        failed_service=record["failed_service"],
        delegates=can_delegate(last),
        reward=None if last.reward is None else float(last.reward),
        score={name: float(value) for name, value in record.get("score", {}).items()},
        wall_s=wall_s,
        runs=runs,
    )


def _run(sample: Any, codec: Decoder, advantage: float | None) -> Run:
    trajectory = read_trajectory(sample)
    prompt = trajectory.prompt_ids
    segments = [Segment(owner="prompt", trained=False, tokens=tuple(codec.pieces(prompt)), token_ids=tuple(prompt))]
    segments += _segments(sample, trajectory, codec)
    noted = sample.metadata[RECORD_KEY].get(DISTILLATION_KEY, {})
    return Run(
        role=role_of(sample),
        ending=trajectory.ending.value if trajectory.ending else None,
        answer=trajectory.answer,
        segments=tuple(segments),
        calls=tuple(map(_call, trajectory.calls)),
        advantage=advantage,
        disagreements=tuple(map(Disagreement.model_validate, noted.get("disagreements", ()))),
    )


def _segments(sample: Any, trajectory: Trajectory, codec: Decoder) -> list[Segment]:
    """The response's, cut wherever the sample's loss mask changes."""
    masked = sample.remove_sample or sample.loss_mask is None
    mask = [0] * len(trajectory.response_ids) if masked else sample.loss_mask[: len(trajectory.response_ids)]
    segments, start = [], 0
    for segment in trajectory.segments:
        length, first = len(segment.token_ids), 0
        for trained, group in itertools.groupby(map(bool, mask[start : start + length])):
            piece = slice(first, first + len(list(group)))
            first = piece.stop
            ids = segment.token_ids[piece]
            scored = segment.owner is Owner.MODEL and segment.log_probs is not None
            segments.append(
                Segment(
                    owner=segment.owner.value,
                    trained=trained,
                    tokens=tuple(codec.pieces(ids)),
                    token_ids=tuple(ids),
                    log_probs=tuple(round(x, 5) for x in (segment.log_probs or ())[piece]) if scored else None,
                    is_correction=segment.is_correction,
                )
            )
        start += length
    return segments


def _call(call: CallRecord) -> Call:
    return Call(
        turn=call.turn,
        tool=call.tool,
        query=call.query,
        passages=tuple(Passage(title=p.title, text=p.text) for p in call.passages),
        latency_s=round(call.latency_s, 4),
        details=dict(call.details),
    )
