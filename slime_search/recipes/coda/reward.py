"""The reward that a planner and its executors share."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from slime_search.config import SearchConfig
from slime_search.core.trajectory import UNSCORED, Trajectory
from slime_search.dialects.tags import TagDialect
from slime_search.recipes.coda.config import PecoConfig
from slime_search.rewards.format import is_well_formed
from slime_search.rewards.search import Score, retrieval_hit, score
from slime_search.rewards.text import cover_exact_match

REFINE = "refine"


@dataclass(frozen=True, slots=True)
class PecoScore(Score):
    """``well_formed`` is the planner's; ``executors_well_formed`` and ``refined`` lie in [0, 1] too."""

    executors_well_formed: float
    refined: float


def peco(
    planner: Trajectory,
    executors: Sequence[Trajectory],
    gold: Sequence[str],
    dialects: tuple[TagDialect, TagDialect],
    weights: PecoConfig,
    config: SearchConfig,
) -> PecoScore:
    """PECO's trajectory-level reward (CoDA, arXiv 2512.12716), one number for all samples of the rollout.

    With m the metric of the planner's answer: ``correctness_weight·m + correctness_offset + format_weight·(planner's
    format + mean of the executors') + refinement_weight·[a refinement holds a gold answer]``, less the penalties for
    not searching and not answering. The mean over no executors is 0. A failed or aborted rollout scores 0.

    Args:
        dialects: the planner's and the executors'.
    """
    planner_dialect, executor_dialect = dialects
    base = score(planner, gold, planner_dialect, config)
    formats = [float(is_well_formed(executor, executor_dialect)) for executor in executors]
    executors_well_formed = statistics.fmean(formats) if formats else 0.0
    refined = float(any(refinement_hit(executor, gold, executor_dialect) for executor in executors))
    searched = float(any(executor.calls for executor in executors))
    hit = max((retrieval_hit(executor, gold) for executor in executors), default=0.0)
    if planner.ending in UNSCORED:
        reward = 0.0
    else:
        matched = base.em if config.reward.metric == "em" else base.f1
        reward = weights.correctness_weight * matched + weights.correctness_offset
        reward += weights.format_weight * (base.well_formed + executors_well_formed)
        reward += weights.refinement_weight * refined
        reward -= config.reward.no_search_penalty * (1 - searched)
        reward -= config.reward.no_answer_penalty * (1 - base.answered)
    parts = asdict(base) | {"reward": reward, "searched": searched, "retrieval_hit": hit}
    return PecoScore(**parts, executors_well_formed=executors_well_formed, refined=refined)


def refinement_hit(executor: Trajectory, gold: Sequence[str], dialect: TagDialect) -> bool:
    """Whether a refinement that the executor wrote contains a gold answer."""
    return any(cover_exact_match(note, gold) for turn in executor.turns() for note in dialect.noted(REFINE, turn))
