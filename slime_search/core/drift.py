"""When an engine renders the conversation itself, and not into the tokens that are held.

A server without token-in takes messages and renders them with its own template. What it conditions on may then differ
from prompt and response as they were sampled: a thought is stripped, a call's JSON is written anew, a word is
tokenised another way. A token may be trained on only together with the context that it was sampled in, so the record
follows the engine, in one of two ways.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from slime_search.core.trajectory import Owner, Trajectory

logger = logging.getLogger(__name__)

REALIGNED_TOKENS = 16
"""Sampled tokens that may be given up to keep one context; to lose more, a fork is worth its second prompt."""


def reconcile(trajectory: Trajectory, prompt_ids: Sequence[int]) -> None:
    """Makes ``trajectory`` hold exactly ``prompt_ids``, the context of the completion that is about to be appended.

    1. A turn that an abort interrupted is dropped: a server that takes messages can't go on inside a turn, so it began
       the turn anew.
    2. Where the trajectory holds ``prompt_ids`` already, nothing is left to do.
    3. Where nothing was sampled in the present context, ``prompt_ids`` simply becomes its prompt.
    4. *Realign*: where the two differ inside the last turn or after it, the engine's tokens replace ours, with mask 0.
       Sampled tokens before the difference keep their context and stay trained; those after it, at most
       REALIGNED_TOKENS, are no longer trained on. ``_realign`` has an example.
    5. *Fork*: anything else begins a new context, and with it a second sample of the same rollout. The first sample
       keeps all that was sampled in it.

    Every sampled token is trained at most once, and only after the tokens that the engine conditioned on.
    """
    trajectory.drift.lost_tokens += trajectory.drop_open_turn()
    held = trajectory.token_ids
    prompt_ids = list(prompt_ids)
    if held == prompt_ids:
        return
    if not trajectory.context_segments:
        trajectory.restart(prompt_ids)
        return
    if _realign(trajectory, held, prompt_ids):
        trajectory.drift.realigned += 1
        return
    trajectory.drift.forked += 1
    trajectory.fork(prompt_ids)
    logger.debug("the engine rendered %d tokens where %d were held: forked", len(prompt_ids), len(held))


def go_on_from(trajectory: Trajectory, prompt_ids: Sequence[int]) -> None:
    """Begins a context of its own where the next turn is to be conditioned on other tokens than are held.

    For a choice of ours, such as leaving out earlier thoughts: nothing is given up for it, unlike in ``reconcile``.
    """
    if list(prompt_ids) != trajectory.token_ids:
        trajectory.drift.forked += 1
        trajectory.fork(prompt_ids)


def _realign(trajectory: Trajectory, held: list[int], prompt_ids: list[int]) -> bool:
    """Replaces the last turn's end and the observation after it by the engine's tokens; False where that can't be done.

    An example, with the prompt ``P``, a sampled turn ``a b c`` and its observation ``x y``. The engine rendered the
    turn's end in other tokens:

        held        P  a b c  x y       masks  1 1 1  0 0
        prompt_ids  P  a b d  e x y

    They have ``P a b`` in common, so 2 tokens of the turn are kept and 1 is lost. What follows the kept ones in
    ``prompt_ids``, ``d e x y``, becomes the observation:

        after       P  a b    d e x y   masks  1 1    0 0 0 0

    It can't be done where the difference lies before the turn, in its first token, or more than REALIGNED_TOKENS before
    its end.
    """
    segments = trajectory.context_segments
    if len(segments) < 2 or segments[-2].owner is not Owner.MODEL:
        return False
    turn, observation = segments[-2:]
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(held, prompt_ids, strict=False)))
    turn_end = len(held) - len(observation.token_ids)
    kept = min(common - (turn_end - len(turn.token_ids)), len(turn.token_ids))
    lost = len(turn.token_ids) - kept
    if kept <= 0 or lost > REALIGNED_TOKENS:
        return False
    ids = prompt_ids[turn_end - lost :]
    trajectory.replace_last(
        [
            replace(
                turn,
                token_ids=turn.token_ids[:kept],
                log_probs=None if turn.log_probs is None else turn.log_probs[:kept],
            ),
            replace(observation, token_ids=ids, log_probs=[0.0] * len(ids)),
        ]
    )
    trajectory.drift.lost_tokens += lost
    return True
