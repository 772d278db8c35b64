"""A run of planner and executors as rows that are trained on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slime_search.core.tool import passages_result
from slime_search.core.trajectory import CallRecord, Owner, Segment, Trajectory
from slime_search.data.prompts import planner_prompt
from slime_search.dialects.tags import TagDialect
from slime_search.hooks.facts import EXECUTOR
from slime_search.recipes.coda.prompts import EXECUTOR_PROMPT
from slime_search.recipes.coda.recipe import EXECUTOR_TAGS, PLANNER


@dataclass(frozen=True)
class Run:
    """Both roles' trajectories at one question; ``tasks`` are what the executors were given."""

    question: str
    planner: Trajectory
    executors: Sequence[Trajectory]
    planner_dialect: TagDialect

    @property
    def tasks(self) -> list[str]:
        return [call.query for call in self.planner.calls]


def rows_of(run: Run, facts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One row for the planner and one for each executor.

    ``prompt`` and, in ``metadata``, ``segments``, ``task`` and ``tags`` are what ``hooks.demonstrations`` reads.

    Args:
        facts: what else ``metadata`` tells of the run, such as its teacher.
    """
    tags = sorted({*run.planner_dialect.tags, *EXECUTOR_TAGS.tags})
    for task, executor in zip(run.tasks, run.executors, strict=True):
        pieces = pieces_of(executor, EXECUTOR_TAGS)
        yield _row(EXECUTOR_PROMPT, pieces, task, {**facts, "role": EXECUTOR, "question": run.question}, tags)
    pieces = pieces_of(run.planner, run.planner_dialect)
    yield _row(planner_prompt(run.question), pieces, None, {**facts, "role": PLANNER, "question": run.question}, tags)


def _row(
    prompt: str, pieces: list[dict[str, str]], task: str | None, facts: Mapping[str, str], tags: Sequence[str]
) -> dict[str, Any]:
    metadata = {"segments": pieces, "task": task, "tags": list(tags), **facts}
    return {"prompt": [{"role": "user", "content": prompt}], "metadata": metadata}


def pieces_of(trajectory: Trajectory, dialect: TagDialect) -> list[dict[str, str]]:
    """The segments, with each result taken apart as it was encoded: the tags around it, and its blocks."""
    pieces: list[dict[str, str]] = []
    turn = 0
    for segment in trajectory.segments:
        if segment.owner is Owner.MODEL:
            pieces.append({"owner": "model", "text": segment.text})
            continue
        calls = [call for call in trajectory.calls if call.turn == turn]
        pieces += _result_pieces(segment, calls, dialect)
        turn += 1
    return pieces


def _result_pieces(segment: Segment, calls: Sequence[CallRecord], dialect: TagDialect) -> list[dict[str, str]]:
    if segment.is_correction:
        return [{"owner": "world", "text": segment.text}]
    tag = dialect.tools[calls[0].tool]
    opening, closing = f"\n\n<{tag}>", f"</{tag}>\n\n"
    body = segment.text.removeprefix(opening).removesuffix(closing)
    blocks = list(passages_result(calls[0].passages).blocks) if len(calls) == 1 else []
    texts = []
    for block in blocks:
        # The whole result has no blanks around it, and a budget may have left blocks out.
        text = next(
            (t for t in (block, block.lstrip(), block.rstrip(), block.strip()) if t and body.startswith(t)), None
        )
        if text is None:
            break
        texts.append(text)
        body = body[len(text) :]
    texts += [body] if body else []
    world = [{"owner": "world", "text": text} for text in texts]
    return [{"owner": "frame", "text": opening}, *world, {"owner": "frame", "text": closing}]
