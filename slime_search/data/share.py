"""A share of questions, with the interval that so many of them tell it by."""

import math
from typing import NamedTuple

_Z = 1.959964
"""Of a normal distribution, 95 % lies within so many standard deviations."""


class Share(NamedTuple):
    """``hits`` of ``total``, which is above 0."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of Wilson's 95 % score interval, which holds near 0 and 1 too (JASA 22, 1927)."""
        middle = (self.hits + _Z**2 / 2) / (self.total + _Z**2)
        spread = math.sqrt(self.value * (1 - self.value) / self.total + _Z**2 / (4 * self.total**2))
        half = _Z * spread / (1 + _Z**2 / self.total)
        # Rounding must not put the share itself outside.
        return min(self.value, max(0.0, middle - half)), max(self.value, min(1.0, middle + half))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%})"
