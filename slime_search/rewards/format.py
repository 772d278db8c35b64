"""Whether a trajectory follows the format from its first token to its last: a small state machine over segments."""

from enum import Enum, auto

from slime_search.core.dialect import Answer, Format
from slime_search.core.trajectory import Owner, Trajectory


class _State(Enum):
    MODEL_TO_SPEAK = auto()
    TOOL_TO_SPEAK = auto()
    ANSWERED = auto()
    BROKEN = auto()


def is_well_formed(trajectory: Trajectory, dialect: Format) -> bool:
    """True when well-formed model turns and tool results alternate and the last turn answers.

    A correction breaks the format, since it answers a turn that held no valid action.
    """
    state = _State.MODEL_TO_SPEAK
    for owner, text, is_correction in _steps(trajectory):
        match state, owner:
            case _State.MODEL_TO_SPEAK, Owner.MODEL if dialect.is_well_formed(text):
                state = _State.ANSWERED if isinstance(dialect.parse(text), Answer) else _State.TOOL_TO_SPEAK
            case _State.TOOL_TO_SPEAK, Owner.WORLD if not is_correction:
                state = _State.MODEL_TO_SPEAK
            case _:
                state = _State.BROKEN
    return state is _State.ANSWERED


def _steps(trajectory: Trajectory) -> list[tuple[Owner, str, bool]]:
    """Segments with the pieces of an interrupted turn joined."""
    steps: list[tuple[Owner, str, bool]] = []
    for segment in trajectory.segments:
        if steps and segment.owner is Owner.MODEL and steps[-1][0] is Owner.MODEL:
            steps[-1] = (Owner.MODEL, steps[-1][1] + segment.said, False)
        else:
            steps.append((segment.owner, segment.said, segment.is_correction))
    return steps
