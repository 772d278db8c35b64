"""What the table at the end counts."""

from typing import Any

from slime_search.evaluation.session import Tally
from slime_search.records.rollout import Rollout


def rollout(ending: str, reward: float, **fields: Any) -> Rollout:
    runs = [{"ending": ending, "answer": None, "segments": ()}]
    row = {"id": "q/0", "group": "q", "question": "Who?", "answer": None, "ending": ending, "reward": reward}
    return Rollout.model_validate({**row, "runs": runs, **fields})


def test_what_failed_or_was_aborted_is_in_no_score() -> None:
    tally = Tally()
    tally.add(rollout("answered", 1.0, score={"em": 1.0}).facts)
    tally.add(rollout("aborted", 0.0).facts)
    tally.add(rollout("failed", 0.0, error="down", failed_service="retriever").facts)
    labels, values = (list(column.cells) for column in tally.table().columns)
    table = dict(zip(labels, values, strict=True))
    assert table["ended"] == "answered 1, aborted 1, failed 1"
    assert table["reward"] == table["exact match"] == "1.000"
    assert table["failed by"] == "retriever 1"
