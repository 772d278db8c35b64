"""How much demonstrations weigh in a step."""

from typing import NamedTuple


class Entropies(NamedTuple):
    """Mean entropy a trained token, in nats, of demonstrations and of rollouts."""

    sft: float
    rl: float


def sft_weight(
    now: Entropies | None, before: Entropies | None, accuracy: float | None, *, growth: float, scale: float
) -> float:
    """``scale`` times clamp(w·c, 1, G²), with G = ``growth``.

    w = clip(|1 − H_sft(t)/H_sft(t−1)| / |1 − H_rl(t)/H_rl(t−1)|, 1, G) (Guan et al., arXiv 2508.16677), and 1 where one
    of the entropies is not known, as in the first step; c = G^(1 − 2·accuracy), and 1 without an accuracy.
    """
    w = 1.0 if now is None or before is None else _relative_change(now, before, growth)
    c = 1.0 if accuracy is None else growth ** (1 - 2 * accuracy)
    return scale * min(max(w * c, 1.0), growth**2)


def _relative_change(now: Entropies, before: Entropies, growth: float) -> float:
    if before.sft <= 0 or before.rl <= 0:
        return 1.0
    of_sft, of_rl = abs(1 - now.sft / before.sft), abs(1 - now.rl / before.rl)
    # A ratio beyond the clip is not divided out, so that an entropy that stands still is no division by zero.
    if of_sft >= growth * of_rl:
        return growth if of_sft else 1.0
    return max(of_sft / of_rl, 1.0)
