"""Published exact match on the seven test sets, to read beside one's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from slime_search.data.flashrag import DATA_SETS

SETTING = "E5-base-v2 over Wikipedia of 2018, top 3 passages"
"""What the numbers below were measured under, as far as their papers agree."""


@dataclass(frozen=True, slots=True)
class Published:
    """One system. ``em`` holds one number for each of the DATA_SETS, in their order."""

    size: Literal["3B", "7B"]
    name: str
    source: str
    em: tuple[float, float, float, float, float, float, float]

    @property
    def by_set(self) -> Mapping[str, float]:
        return dict(zip(DATA_SETS, self.em, strict=True))


_SEARCH_R1 = "Jin et al., arXiv 2503.09516"
_AUTOREFINE = "Shi et al., arXiv 2505.11277"
_CODA = "arXiv 2512.12716"
_VERLTOOL = "Jiang et al., arXiv 2509.01055"

PUBLISHED = (
    Published("3B", "RAG", _SEARCH_R1, (0.348, 0.544, 0.387, 0.255, 0.226, 0.047, 0.080)),
    Published("3B", "Search-R1, PPO, base", _SEARCH_R1, (0.406, 0.587, 0.435, 0.284, 0.273, 0.049, 0.088)),
    Published("3B", "Search-R1, GRPO, base", _SEARCH_R1, (0.421, 0.583, 0.413, 0.297, 0.274, 0.066, 0.128)),
    Published("3B", "Search-R1, GRPO, instruct", _SEARCH_R1, (0.397, 0.565, 0.391, 0.331, 0.310, 0.124, 0.232)),
    Published("3B", "AutoRefine, base", _AUTOREFINE, (0.467, 0.620, 0.450, 0.405, 0.393, 0.157, 0.344)),
    Published("3B", "CoDA, base", _CODA, (0.441, 0.608, 0.452, 0.407, 0.408, 0.187, 0.368)),
    Published("7B", "Search-R1, PPO, base", _SEARCH_R1, (0.480, 0.638, 0.457, 0.433, 0.382, 0.196, 0.432)),
    Published("7B", "AutoRefine, base", _AUTOREFINE, (0.484, 0.659, 0.487, 0.451, 0.405, 0.187, 0.512)),
    Published("7B", "VerlTool VT-Search, GRPO, base", _VERLTOOL, (0.493, 0.662, 0.502, 0.448, 0.453, 0.193, 0.464)),
)


def published_of(size: str) -> list[Published]:
    """The systems of this model size, or with "all" every one."""
    return [system for system in PUBLISHED if size in ("all", system.size)]
