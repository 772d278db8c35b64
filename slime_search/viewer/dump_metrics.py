"""The dumps of slime's ``--save-debug-rollout-data``, summarised as slime-search's metrics were in the run itself."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.progress import Progress

from slime_search.errors import DataError
from slime_search.hooks.contract import LocalSample, reward_number
from slime_search.hooks.facts import question_of
from slime_search.hooks.metrics import PREFIX, rollout_metrics
from slime_search.hooks.samples import rollouts_of
from slime_search.records.slime_dump import DUMP_NAME, read_samples, written
from slime_search.viewer.curve import Metric

_FOLDER = "rollout_data"
"""Where ``--dump-details`` puts them."""
_KEYS = ("em", "searches", "truncated", "out_of_turns", "failed")


def dumps_of(folder: Path) -> list[Path]:
    """The dumps of a folder, or of its ``rollout_data``, in the order of their steps; none where there are none."""
    for where in (folder, folder / _FOLDER):
        found = {path: match for path in where.glob("*.pt") if (match := DUMP_NAME.fullmatch(path.name))}
        if found:
            return sorted(found, key=lambda path: (int(found[path]["step"]), path.name))
    return []


def read_dumps(paths: Sequence[Path], progress: Progress, *, reward_key: str | None = None) -> list[Metric]:
    """A row a training dump, and a row an evaluation's dump and test set. One dump is in memory at a time.

    The newest is passed over if it is half written.

    ``reward`` is the mean over the ``rewarded`` rollouts, those that have one; where some lack it, the console says so.
    ``response_tokens`` are those that were trained on, a mean over samples, as slime logs it. Of samples that another
    generate function made, reward, tokens and truncation are known alone.

    Args:
        reward_key: slime's ``--reward-key``, where rewards are dicts.

    Raises:
        DataError: a dump can't be read, or its samples are not slime's; the message names it.
    """
    rows: list[Metric] = []
    for path in progress.track(written(paths, progress.console), description="reading dumps"):
        match = DUMP_NAME.fullmatch(path.name)
        assert match is not None
        samples = read_samples(path, reward_key=reward_key)
        try:
            rows += _rows(samples, int(match["step"]), evaluation=match["eval"] is not None)
        except (AttributeError, LookupError, TypeError) as error:
            raise DataError(f"{path}: not samples of slime ({error})") from None
        if lacking := sum(sample.reward is None for sample in samples if not sample.remove_sample):
            message = f"{path}: {lacking:,} of {len(samples):,} samples have no reward and are in no mean of rewards"
            progress.console.print(message, markup=False, soft_wrap=True)
    return rows


def _rows(samples: Sequence[LocalSample], step: int, *, evaluation: bool) -> Iterator[Metric]:
    if not evaluation:
        yield {"phase": "train", "step": step, **_summary(samples)}
        return
    sets: dict[str, list[LocalSample]] = defaultdict(list)
    for sample in samples:
        # Each data set of an evaluation counts its samples from 0, so that equal numbers are no rollout.
        sample.rollout_id = None
        sets[str(sample.metadata.get("data_source") or "")].append(sample)
    for name, members in sets.items():
        yield {"phase": "eval", "step": step, "set": name, **_summary(members)}


def _summary(samples: Sequence[LocalSample]) -> Mapping[str, float | int]:
    rollouts = [rollout[-1] for rollout in rollouts_of(samples)]
    live = [sample for sample in rollouts if not sample.remove_sample]
    rewards = [reward for sample in live if (reward := reward_number(sample.reward)) is not None]
    metrics = rollout_metrics(samples)

    def share(status: LocalSample.Status) -> float:
        return statistics.fmean(sample.status is status for sample in rollouts) if rollouts else 0.0

    return {
        "n": _questions(live),
        "response_tokens": statistics.fmean(map(_trained_tokens, samples)) if samples else 0.0,
        "truncated": share(LocalSample.Status.TRUNCATED),
        "failed": share(LocalSample.Status.FAILED),
        **({"reward": statistics.fmean(rewards), "rewarded": len(rewards)} if rewards else {}),
        **{key: metrics[PREFIX + key] for key in _KEYS if PREFIX + key in metrics},
    }


def _questions(rollouts: Sequence[LocalSample]) -> int:
    """Several attempts at one question tell of one question, as far as the questions are known."""
    return len({question_of(sample) for sample in rollouts} - {""}) or len(rollouts)


def _trained_tokens(sample: LocalSample) -> int:
    return sample.response_length if sample.loss_mask is None else int(sum(sample.loss_mask))
