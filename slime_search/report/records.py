"""What a report is made of, checked: the rollouts before and after training, and the run's summary."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from slime_search.errors import DataError
from slime_search.rollouts.record import Record, Rollout, displayable, explain

Rate = Annotated[float, Field(ge=0, le=1)]


class Summary(Record):
    """The headline numbers. Rates lie in [0, 1]; ``questions`` counts the held-out questions behind them.

    Other keys are kept, in ``model_extra``.
    """

    model_config = ConfigDict(extra="allow")

    seed: int
    em_before: Rate
    em_after: Rate
    em_before_greedy: Rate | None = None
    em_after_greedy: Rate | None = None
    wall_s: float = Field(ge=0)
    steps: int = Field(ge=0)
    model_parameters: int = Field(gt=0)
    questions: int = Field(gt=0)


_ROLLOUTS = TypeAdapter(list[Rollout])


def read_rollouts(rows: Sequence[Mapping[str, Any]]) -> list[Rollout]:
    """Checks rows of ``trajectories.jsonl``.

    Raises:
        DataError: a row lacks a field or holds a bad value; the message names both.
    """
    try:
        return _ROLLOUTS.validate_python(rows)
    except ValidationError as error:
        raise DataError(explain("rollouts", error)) from None


def read_summary(summary: Mapping[str, Any]) -> Summary:
    """Checks the summary.

    Raises:
        DataError: a headline number is missing or out of range; the message names it.
    """
    try:
        return Summary.model_validate({displayable(key): value for key, value in summary.items()})
    except ValidationError as error:
        raise DataError(explain("summary", error)) from None
