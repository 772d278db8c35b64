"""Between slime's ``Sample`` and a Trajectory, in both directions.

The sample's own fields (tokens, loss mask, log-probabilities) are what slime trains on. What they can't hold, the
segments and the tool calls, lies in ``sample.metadata["slime_search"]`` as plain JSON, so that rewards, a resumed
rollout and a saved dump can read it.
"""

import copy
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from slime_search.core.trajectory import UNSCORED, Ending, Owner, Segment, Trajectory
from slime_search.core.trajectory_record import from_record, to_record
from slime_search.errors import DataError
from slime_search.hooks.contract import Args, Messages, Sample, reward_in_slimes_form
from slime_search.hooks.token_fields import begin_nucleus, fill_routes, forget_token_fields, told_of

S = TypeVar("S", bound=Sample)

RECORD_KEY = "slime_search"
PLACEHOLDER_KEY = "placeholder"
"""Set in the record of a sample whose one response token stands for an empty response. It is masked."""

PART_KEY = "part"
"""Set in the record of each sample of a forked trajectory: which context it holds, counted from 0."""
ROLE_KEY = "role"
"""Set in the record of each sample of a rollout of several agents: which of them it shows."""

SECONDS_KEY = "thinker_s"
"""Set in the record of a Thinker's sample: how long the Thinker itself was at work."""

_STATUS = {
    Ending.ANSWERED: "COMPLETED",
    Ending.TRUNCATED: "TRUNCATED",
    Ending.OUT_OF_TURNS: "TRUNCATED",
    Ending.ABORTED: "ABORTED",
    Ending.FAILED: "FAILED",
}


def open_trajectory(sample: Sample, encode_prompt: Callable[[str | Messages], list[int]]) -> Trajectory:
    """The trajectory to carry on: a new one, or that of an aborted or failed sample, reopened.

    Resets the reward and ``remove_sample`` that the interruption left.

    Raises:
        DataError: the sample has response tokens that this package did not write.
    """
    sample.reward = None
    sample.remove_sample = False
    _remove_placeholder(sample)
    if sample.response_length == 0:
        return Trajectory(sample.tokens or encode_prompt(sample.prompt))
    trajectory = read_trajectory(sample)
    trajectory.reopen()
    return trajectory


def read_trajectory(sample: Sample) -> Trajectory:
    """The trajectory of a sample, for rewards and reports.

    Raises:
        DataError: the sample was not written by ``write_back``.
    """
    record = record_of(sample)
    if not record:
        raise DataError(
            f"sample {sample.index}: no metadata[{RECORD_KEY!r}], so its segments are unknown. Another generate "
            "function wrote it; set --custom-generate-function-path and --custom-rm-path to the same module."
        )
    if record[PLACEHOLDER_KEY]:
        return from_record(record, sample.tokens[:-1], [])
    return from_record(record, sample.tokens, sample.rollout_log_probs)


def write_back(
    args: Args, sample: Sample, trajectory: Trajectory, *, known_segments: int, with_log_probs: bool = True
) -> None:
    """Appends to ``sample`` the segments after the first ``known_segments``, and says how the trajectory ended.

    Without log-probabilities ``rollout_log_probs`` stays None, for every sample of a run alike. A failed or aborted
    trajectory gets reward 0.0 and ``remove_sample``, so that whatever becomes of the sample, its tokens are masked and
    its reward is a number.
    """
    if not sample.tokens:
        sample.tokens = list(trajectory.prompt_ids)
    append = _append if with_log_probs else _append_unscored
    added = trajectory.segments[known_segments:]
    begin_nucleus(args, sample, added)
    for segment in added:
        append(args, sample, segment, told_of(segment, added))
    record = {**to_record(trajectory), PLACEHOLDER_KEY: sample.response_length == 0}
    if record[PLACEHOLDER_KEY]:
        # slime's loss takes tokens[-response_length:], which is the whole prompt when there is no response.
        append(args, sample, Segment(Owner.WORLD, sample.tokens[-1:], "", [0.0]), {})
    fill_routes(args, sample)
    assert trajectory.ending is not None
    sample.status = status_of(sample, _STATUS[trajectory.ending])
    if trajectory.ending in UNSCORED:
        take_out(args, sample)
    sample.non_generation_time = sum(call.latency_s for call in trajectory.calls)
    sample.metadata = {**(sample.metadata or {}), RECORD_KEY: record}


def take_out(args: Args, sample: Sample) -> None:
    """Leaves a sample without a training signal: its tokens masked by ``remove_sample``, and a reward of 0."""
    sample.reward = reward_in_slimes_form(args, 0.0, "removed")
    sample.remove_sample = True


def fail_rollout(args: Args, rollout: Iterable[Sample], service: str, error: str) -> None:
    """Makes a finished rollout one that ``service`` failed: taken out of training, its record saying why."""
    for sample in rollout:
        take_out(args, sample)
        sample.status = status_of(sample, "FAILED")
        sample.metadata[RECORD_KEY] |= {"ending": Ending.FAILED.value, "error": error, "failed_service": service}


def status_of(sample: Sample, name: str) -> Any:
    """The status of that name, of the sample's own class."""
    return type(sample).Status[name]  # type: ignore[attr-defined]


def write_back_parts(
    args: Args, sample: Sample, trajectory: Trajectory, *, with_log_probs: bool = True
) -> list[Sample]:
    """One sample for each context of a trajectory whose engine may have made it fork, all of one ``rollout_id``.

    They share the rollout's reward, and slime divides the loss by their tokens together. ``sample`` itself is left as
    it was. slime resumes single samples only, so none of a list can be resumed; an aborted one is masked.

    An example: the prompt ``P``, a turn ``a``, its observation ``x``, and then an engine that rendered all of it anew
    as ``Q`` before it sampled the turn ``b``. That is two samples:

        part 0  tokens P a x  loss mask 1 0
        part 1  tokens Q b    loss mask 1

    Both carry the ending of the whole trajectory, so that a failure takes both out.
    """
    siblings = []
    for number, part in enumerate(trajectory.parts()):
        part.ending = trajectory.ending
        sibling = _sibling(args, sample, part, with_log_probs=with_log_probs)
        sibling.metadata[RECORD_KEY][PART_KEY] = number
        siblings.append(sibling)
    return siblings


def write_back_roles(
    args: Args, sample: Sample, runs: Sequence[tuple[str, Trajectory]], *, with_log_probs: bool = True
) -> list[Sample]:
    """One sample for each agent's run, all of one ``rollout_id``, for a rollout in which one model plays several roles.

    The last run is the rollout's: when a service failed it, or it was aborted, none of the samples is trained on.
    ``sample`` itself is left as it was, and none of the list can be resumed, as in ``write_back_parts``.
    """
    siblings = []
    for role, trajectory in runs:
        sibling = _sibling(args, sample, trajectory, with_log_probs=with_log_probs)
        sibling.metadata[RECORD_KEY][ROLE_KEY] = role
        siblings.append(sibling)
    last = siblings[-1]
    if last.remove_sample:
        for sibling in siblings:
            take_out(args, sibling)
            sibling.status = last.status
    return siblings


_others: dict[int, list[Sample]] = {}
"""Of each sample that answers for its rollout in an evaluation, by its id: the rollout's other samples."""


def answering(siblings: Sequence[Sample]) -> Sample:
    """The last sample of a rollout, which answers, in place of them all.

    An evaluation counts samples, and slime has the run's or the data set's reward function score this one.
    ``whole_rollout`` finds the others again, for as long as this one lives in this process.
    """
    *others, last = siblings
    if others:
        _others[id(last)] = others
        weakref.finalize(last, _others.pop, id(last), None).atexit = False
    return last


def whole_rollout(sample: Sample) -> list[Sample]:
    """All samples of the rollout that ``sample`` answers for, ``sample`` itself last."""
    return [*_others.get(id(sample), ()), sample]


def record_of(sample: Sample) -> Mapping[str, Any]:
    """This package's record in a sample's metadata; empty where another program wrote the sample."""
    record: Mapping[str, Any] = (sample.metadata or {}).get(RECORD_KEY) or {}
    return record


def role_of(sample: Sample) -> str | None:
    """Which agent a sample shows, in a rollout of several."""
    return record_of(sample).get(ROLE_KEY)


def flattened(samples: Iterable[Any]) -> list[Sample]:
    """The samples of groups in which a rollout of several samples is a list of its own."""
    return [sample for child in samples for sample in (flattened(child) if isinstance(child, list) else [child])]


def _sibling(args: Args, sample: Sample, trajectory: Trajectory, *, with_log_probs: bool) -> Sample:
    """A sample of one rollout's, of which there are others."""
    sibling = copy.deepcopy(sample)
    sibling.tokens, sibling.response, sibling.response_length = [], "", 0
    sibling.loss_mask = sibling.rollout_log_probs = None
    forget_token_fields(sibling)
    if sibling.rollout_id is None:
        sibling.rollout_id = sample.index
    write_back(args, sibling, trajectory, known_segments=0, with_log_probs=with_log_probs)
    return sibling


def rollouts_of(samples: Sequence[S]) -> list[list[S]]:
    """The samples of each rollout, in order: those of one ``rollout_id`` together, every other one by itself."""
    rollouts: dict[int | tuple[str, int], list[S]] = {}
    for position, sample in enumerate(samples):
        rollout_id = getattr(sample, "rollout_id", None)
        rollouts.setdefault(("alone", position) if rollout_id is None else rollout_id, []).append(sample)
    return list(rollouts.values())


def read_whole(samples: Sequence[Sample]) -> Trajectory:
    """The trajectory whose parts are ``samples``, in the order in which they were written."""
    return Trajectory.join([read_trajectory(sample) for sample in samples])


def _remove_placeholder(sample: Sample) -> None:
    if record_of(sample).get(PLACEHOLDER_KEY):
        sample.tokens = sample.tokens[:-1]
        sample.response_length = 0
        sample.loss_mask = sample.rollout_log_probs = None
        forget_token_fields(sample)


def _append(args: Args, sample: Sample, segment: Segment, meta_info: dict[str, Any]) -> None:
    is_model = segment.owner is Owner.MODEL
    sample.append_response_tokens(
        args,
        tokens=segment.token_ids,
        log_probs=segment.log_probs if is_model else None,
        trainable=is_model,
        meta_info=meta_info if is_model else None,
        text=segment.text,
    )


def _append_unscored(args: Args, sample: Sample, segment: Segment, meta_info: dict[str, Any]) -> None:
    """slime's own method insists on log-probabilities for trained tokens, so this writes the fields itself."""
    sample.tokens = [*sample.tokens, *segment.token_ids]
    sample.loss_mask = [*(sample.loss_mask or ()), *[int(segment.owner is Owner.MODEL)] * len(segment.token_ids)]
    sample.response_length += len(segment.token_ids)
    sample.response += segment.text
    if "weight_version" in meta_info:
        sample.weight_versions.append(meta_info["weight_version"])
