"""Two checkpoints on the questions that both were asked."""

from dataclasses import dataclass

from slime_search.report.views import change
from slime_search.viewer.library import Library, share_of


@dataclass(frozen=True)
class Side:
    """One checkpoint's attempts at a question. ``right`` is the share of them that are, None if unknown."""

    numbers: list[int]
    right: float | None


@dataclass(frozen=True)
class Pair:
    question: str
    left: Side
    right: Side

    @property
    def change(self) -> str:
        """``unknown`` where one side has no attempt that was scored, as where a service failed them all."""
        if self.left.right is None or self.right.right is None:
            return "unknown"
        return change(self.left.right, self.right.right)


def compare(library: Library, left: str, right: str) -> list[Pair]:
    """The questions of both checkpoints, in the order of the files."""
    pairs = []
    for question, numbers in library.numbers_of.items():
        sides = [_side(library, numbers, checkpoint) for checkpoint in (left, right)]
        if all(side.numbers for side in sides):
            pairs.append(Pair(question, *sides))
    return pairs


def _side(library: Library, numbers: list[int], checkpoint: str) -> Side:
    own = [number for number in numbers if library.checkpoint_of(library.entries[number]) == checkpoint]
    return Side(own, share_of(library.entries[number].right for number in own))
