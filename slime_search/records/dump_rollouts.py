"""slime's dumps of samples as rollouts."""

import itertools
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slime_search.errors import DataError
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.facts import gold_of, question_of
from slime_search.hooks.groups import normalize_rewards
from slime_search.hooks.samples import RECORD_KEY, rollouts_of
from slime_search.records.from_samples import Decoder, rollout_record
from slime_search.records.rollout import Ending, Rollout, Run, Segment, explain
from slime_search.records.slime_dump import DUMP_NAME, read_samples

_GRPO = Namespace(advantage_estimator="grpo", rewards_normalization=True, grpo_std_normalization=True, reward_key=None)
_ENDINGS: Mapping[str, Ending] = {"truncated": "truncated", "aborted": "aborted", "failed": "failed"}
"""What the status of a sample that is not ours says."""


class Ids:
    """Stands in for a tokenizer that is not known: tokens show as their ids."""

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        return [f"{token_id} " for token_id in token_ids]


class Pieces:
    """A Hugging Face tokenizer's text of each token, decoded once an id."""

    def __init__(self, tokenizer: Any) -> None:
        @cache
        def piece(token_id: int) -> str:
            return str(tokenizer.decode([token_id], skip_special_tokens=False))

        self._piece = piece

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        return [self._piece(token_id) for token_id in token_ids]


def dump_rollouts(path: Path, decoder: Decoder, *, reward_key: str | None = None) -> Iterator[Rollout]:
    """The rollouts of one dump, also where another generate function than ours made them.

    Those of a training dump have the advantages of GRPO's group normalisation; ``eval_N.pt`` has none.

    Args:
        reward_key: slime's ``--reward-key``, where rewards are dicts.

    Raises:
        DataError: as ``read_samples``, or a sample's fields disagree; the message names the sample.
    """
    named = DUMP_NAME.fullmatch(path.name)
    evaluation = named is not None and named["eval"] is not None
    step = path.stem.replace("eval_", "", 1) if evaluation else path.stem
    samples = read_samples(path, reward_key=reward_key)
    # Each data set of an evaluation counts its samples from 0, so that a rollout_id tells nothing there.
    rollouts = [[sample] for sample in samples] if evaluation else rollouts_of(samples)
    advantages = {} if evaluation else _advantages(samples)
    for number, rollout in enumerate(rollouts):
        last = rollout[-1]
        known: dict[str, Any] = {
            "id": f"{path.stem}/{number}",
            "group": question_of(last) if evaluation or last.group_index is None else f"{step}/{last.group_index}",
            "stage": f"{'eval' if evaluation else 'rollout'} {step}",
            "advantages": [advantages[id(sample)] for sample in rollout] if advantages else None,
        }
        ours = all(RECORD_KEY in sample.metadata for sample in rollout)
        try:
            yield rollout_record(rollout, decoder, **known) if ours else _foreign_record(rollout, decoder, **known)
        except ValidationError as error:
            raise DataError(f"{path}, sample {last.index}: {explain('rollout', error)}") from None
        except (DataError, KeyError, TypeError) as error:
            raise DataError(f"{path}, sample {last.index}: {error}") from error


def _advantages(samples: Sequence[LocalSample]) -> dict[int, float]:
    """By the sample's identity; none where a group or a reward is not known."""
    if any(sample.group_index is None or sample.reward is None for sample in samples):
        return {}
    _, advantages = normalize_rewards(_GRPO, samples)
    return {id(sample): advantage for sample, advantage in zip(samples, advantages, strict=True)}


def _foreign_record(
    rollout: Sequence[LocalSample],
    decoder: Decoder,
    *,
    id: str,
    group: str,
    stage: str,
    advantages: Sequence[float] | None,
) -> Rollout:
    """What slime's own fields tell: tokens, and which of them are trained."""
    last = rollout[-1]
    known: Sequence[float | None] = advantages or [None] * len(rollout)
    runs = (_foreign_run(sample, decoder, advantage) for sample, advantage in zip(rollout, known, strict=True))
    return Rollout(
        id=id,
        group=group,
        source=str(last.metadata.get("data_source") or ""),
        stage=stage,
        question=question_of(last),
        gold_answers=gold_of(last),
        answer=None,
        ending=_ENDINGS.get(last.status.value),
        reward=last.reward,
        runs=tuple(runs),
    )


def _foreign_run(sample: LocalSample, decoder: Decoder, advantage: float | None) -> Run:
    start = len(sample.tokens) - sample.response_length
    mask = sample.loss_mask if sample.loss_mask is not None else [1] * sample.response_length
    log_probs = sample.rollout_log_probs
    if len(mask) != sample.response_length or (log_probs is not None and len(log_probs) != len(mask)):
        raise DataError(
            f"response_length is {sample.response_length}, but loss_mask has {len(mask)} and rollout_log_probs "
            f"{'no' if log_probs is None else len(log_probs)} values"
        )
    segments = [_segment("prompt", sample.tokens[:start], decoder, trained=False)]
    first = 0
    for trained, group in itertools.groupby(map(bool, mask)):
        piece = slice(first, first + len(list(group)))
        first = piece.stop
        ids = sample.tokens[start:][piece]
        known = log_probs[piece] if log_probs is not None and trained else None
        segment = _segment("model" if trained else "world", ids, decoder, trained and not sample.remove_sample, known)
        segments.append(segment)
    return Run(ending=_ENDINGS.get(sample.status.value), answer=None, segments=tuple(segments), advantage=advantage)


def _segment(
    owner: Any, ids: Sequence[int], decoder: Decoder, trained: bool, log_probs: Sequence[float] | None = None
) -> Segment:
    return Segment(
        owner=owner,
        trained=trained,
        tokens=tuple(decoder.pieces(ids)),
        token_ids=tuple(ids),
        log_probs=None if log_probs is None else tuple(round(value, 5) for value in log_probs),
    )
