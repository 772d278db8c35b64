"""The dumps of slime's ``--save-debug-rollout-data``, summarised as slime-search's metrics were in the run itself."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.progress import Progress

from slime_search.errors import DataError
from slime_search.hooks.metrics import PREFIX, rollout_metrics
from slime_search.hooks.samples import rollouts_of
from slime_search.records.from_samples import question_of
from slime_search.records.slime_dump import DUMP_NAME, load_dump, written
from slime_search.viewer.curve import Metric

_FOLDER = "rollout_data"
"""Where ``--dump-details`` puts them."""
_KEYS = ("em", "searches", "truncated", "failed")


def dumps_of(folder: Path) -> list[Path]:
    """The dumps of a folder, or of its ``rollout_data``, in the order of their steps; none where there are none."""
    for place in (folder, folder / _FOLDER):
        found = {path: match for path in place.glob("*.pt") if (match := DUMP_NAME.fullmatch(path.name))}
        if found:
            return sorted(found, key=lambda path: (int(found[path]["step"]), path.name))
    return []


def read_dumps(paths: Sequence[Path], progress: Progress) -> list[Metric]:
    """A row a training dump, and a row an evaluation's dump and test set. One dump is in memory at a time.

    The newest is passed over if it is half written.

    ``response_tokens`` are those that were trained on, a mean over samples, as slime logs it. Of samples that another
    generate function made, reward, tokens and truncation are known alone.

    Raises:
        DataError: a dump can't be read, or its samples are not slime's; the message names it.
    """
    rows: list[Metric] = []
    for path in progress.track(written(paths, progress.console), description="reading dumps"):
        match = DUMP_NAME.fullmatch(path.name)
        assert match is not None
        samples = [SimpleNamespace(**{**row, "metadata": row.get("metadata") or {}}) for row in load_dump(path)]
        try:
            rows += _rows(samples, int(match["step"]), evaluation=match["eval"] is not None)
        except (AttributeError, LookupError, TypeError) as error:
            raise DataError(f"{path}: not samples of slime ({error})") from None
    return rows


def _rows(samples: Sequence[Any], step: int, *, evaluation: bool) -> Iterator[Metric]:
    if not evaluation:
        yield {"phase": "train", "step": step, **_summary(samples)}
        return
    sets: dict[str, list[Any]] = defaultdict(list)
    for sample in samples:
        # Each data set of an evaluation counts its samples from 0, so that equal numbers are no rollout.
        sample.rollout_id = None
        sets[str(sample.metadata.get("data_source") or "")].append(sample)
    for name, members in sets.items():
        yield {"phase": "eval", "step": step, "set": name, **_summary(members)}


def _summary(samples: Sequence[Any]) -> Mapping[str, float | int]:
    rollouts = rollouts_of(samples)
    live = [rollout[-1] for rollout in rollouts if not rollout[-1].remove_sample]
    metrics = rollout_metrics(samples)
    told: dict[str, float | int] = {
        "n": _questions(live),
        "response_tokens": statistics.fmean(map(_trained_tokens, samples)) if samples else 0.0,
        "truncated": _share(rollouts, "truncated"),
        "failed": _share(rollouts, "failed"),
    }
    rewards = [sample.reward for sample in live]
    # A reward may be a dict, of which only the run knew which part counts.
    if rewards and all(isinstance(reward, Real) for reward in rewards):
        told["reward"] = statistics.fmean(rewards)
    return told | {key: metrics[PREFIX + key] for key in _KEYS if PREFIX + key in metrics}


def _questions(rollouts: Sequence[Any]) -> int:
    """Several attempts at one question tell of one question, as far as the questions are known."""
    return len({question_of(sample) for sample in rollouts} - {""}) or len(rollouts)


def _trained_tokens(sample: Any) -> int:
    return sample.response_length if sample.loss_mask is None else int(sum(sample.loss_mask))


def _share(rollouts: Sequence[Sequence[Any]], status: str) -> float:
    return statistics.fmean(rollout[-1].status == status for rollout in rollouts) if rollouts else 0.0
