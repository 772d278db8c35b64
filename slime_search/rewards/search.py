"""The reward of a search trajectory, read from its segments."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from slime_search.config import SearchConfig
from slime_search.core.dialect import NO_RESULTS, Format
from slime_search.core.trajectory import UNSCORED, Owner, Trajectory
from slime_search.rewards.format import is_well_formed
from slime_search.rewards.text import cover_exact_match, exact_match, f1

_TAG = re.compile(r"</?\w+>")


@dataclass(frozen=True, slots=True)
class Score:
    """The reward and what it is made of; every part lies in [0, 1]."""

    reward: float
    em: float
    f1: float
    cover_em: float
    well_formed: float
    retrieval_hit: float
    searched: float
    answered: float


def score(trajectory: Trajectory, gold: Sequence[str], dialect: Format, config: SearchConfig) -> Score:
    """Scores the answer that the loop accepted, and nothing else: no tag outside the model's last turn can count.

    The reward follows Search-R1 (Jin et al., arXiv 2503.09516 and 2505.15117, ``qa_em_format``): with m the metric and
    s = ``format_score``, it is m − s·[not well-formed] for an answer that matches at all, s·[well-formed] for a wrong
    answer, less the penalties for not searching and not answering. A failed or aborted trajectory scores 0.
    """
    answer = trajectory.answer
    searched, answered = float(bool(trajectory.calls)), float(answer is not None)
    # Where plain text answers, text that was cut off reads like an answer, and is none.
    well_formed = float(answer is not None and is_well_formed(trajectory, dialect))
    em = exact_match(answer, gold) if answer is not None else 0.0
    overlap = f1(answer, gold) if answer is not None else 0.0
    covered = cover_exact_match(answer, gold) if answer is not None else 0.0
    if trajectory.ending in UNSCORED:
        reward = 0.0
    else:
        matched = em if config.reward.metric == "em" else overlap
        reward = max(matched - config.format_score * (1 - well_formed), 0.0)
        reward = max(reward, config.format_score * well_formed)
        reward -= config.reward.no_search_penalty * (1 - searched) + config.reward.no_answer_penalty * (1 - answered)
    return Score(reward, em, overlap, covered, well_formed, retrieval_hit(trajectory, gold), searched, answered)


def retrieval_hit(trajectory: Trajectory, gold: Sequence[str]) -> float:
    """1.0 when text that a tool returned, as far as the model saw it, contains a gold answer."""
    seen = (s.text for s in trajectory.segments if s.owner is Owner.WORLD and not s.is_correction)
    # A tag that touches a word would become part of it once punctuation is gone, and "no" is an answer, too.
    return float(any(cover_exact_match(_TAG.sub(" ", text).replace(NO_RESULTS, " "), gold) for text in seen))
