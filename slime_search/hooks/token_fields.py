"""Fields beside the tokens that slime's conversion takes from every sample, where a rollout has nothing to put there.

With --rollout-top-p below 1 each response token has a nucleus, and with --use-rollout-routing-replay each token but the
last has the experts that it was routed to. The engine tells both with what it samples. A rollout without a token of the
model, or with a result after its last one, is lacking some, and slime stops at the first such sample of a batch.
"""

from collections.abc import Sequence
from typing import Any

from slime_search.core.trajectory import Owner, Segment
from slime_search.engines.nucleus import cut, is_told
from slime_search.hooks.contract import Args, Sample, option

_ROUTES = "routed_experts"


def begin_nucleus(args: Args, sample: Sample, segments: Sequence[Segment]) -> None:
    """Sets the nucleus of a response without tokens, to which ``segments`` add theirs.

    slime's method for the tokens of tools gives them an empty one, but only where there is a nucleus already. In an
    evaluation the engine is not asked, and tells none.
    """
    if option(args, "rollout_top_p", 1.0) == 1.0 or sample.response_length:
        return
    sampled = [segment for segment in segments if segment.owner is Owner.MODEL and segment.token_ids]
    if all(is_told(segment.meta_info) for segment in sampled):
        sample.rollout_top_p_token_ids, sample.rollout_top_p_token_offsets = [], [0]


def told_of(segment: Segment, added: Sequence[Segment]) -> dict[str, Any]:
    """What slime is told of a segment of the model's, one of those that are ``added`` to a sample together.

    Each answer tells the experts of its whole context, so only the last one's are wanted. Where some of a turn's tokens
    were given up, the answer tells of more than are left.
    """
    meta_info = dict(cut(segment.meta_info, len(segment.token_ids)))
    routed = [other for other in added if other.meta_info.get(_ROUTES) is not None]
    if routed and segment is not routed[-1]:
        meta_info.pop(_ROUTES, None)
    return meta_info


def fill_routes(args: Args, sample: Sample) -> None:
    """Routes the tokens that no engine has routed: to each expert in turn, as slime itself does with padding.

    Nothing is learned from what the model says after them, since there is nothing.
    """
    if not option(args, "use_rollout_routing_replay"):
        return
    known = 0 if sample.rollout_routed_experts is None else len(sample.rollout_routed_experts)
    missing = len(sample.tokens) - 1 - known
    if missing > 0:
        count = missing * option(args, "num_layers") * option(args, "moe_router_topk")
        experts = [number % option(args, "num_experts") for number in range(count)]
        meta_info = {_ROUTES: experts, f"{_ROUTES}_start_len": known}
        sample.append_response_tokens(args, tokens=[], meta_info=meta_info)


def forget_token_fields(sample: Sample) -> None:
    """For a sample whose response is begun anew."""
    sample.rollout_top_p_token_ids = sample.rollout_top_p_token_offsets = sample.rollout_routed_experts = None
