"""What an engine tells of each token beside its log-probability: the nucleus, and the experts of each layer.

Both follow from the token, so that whatever becomes of a sample can be compared with them. They are packed as SGLang
packs them.
"""

import base64
from array import array
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

LAYERS, TOPK, EXPERTS = 3, 2, 8
REPLAY = {
    "use_rollout_routing_replay": True,
    "num_layers": LAYERS,
    "moe_router_topk": TOPK,
    "num_experts": EXPERTS,
}
"""slime's arguments for a model with experts."""
TOP_P = {"custom_params": {"return_top_p_token_ids": True}}
"""What slime adds to a request's parameters with --rollout-top-p below 1."""


def nucleus_of(token: int) -> list[int]:
    """One, two or three tokens."""
    return [token, *range(token + 1, token + 1 + token % 3)]


def experts_of(token: int) -> list[list[int]]:
    """TOPK different ones a layer."""
    return [[(token + layer + choice) % EXPERTS for choice in range(TOPK)] for layer in range(LAYERS)]


def packed(numbers: Sequence[int]) -> str:
    return base64.b64encode(array("i", numbers).tobytes()).decode()


def told_of(body: Mapping[str, Any], input_ids: Sequence[int], output_ids: Sequence[int]) -> dict[str, Any]:
    """What a request asks to be told, as meta info. Of the last token no experts are known, it was not read."""
    told: dict[str, Any] = {}
    custom = (body.get("sampling_params") or body).get("custom_params") or {}
    if custom.get("return_top_p_token_ids") and output_ids:
        nuclei = [nucleus_of(token) for token in output_ids]
        offsets = [sum(map(len, nuclei[:count])) for count in range(len(nuclei) + 1)]
        told["top_p_token_ids"] = packed([token for nucleus in nuclei for token in nucleus])
        told["top_p_token_offsets"] = packed(offsets)
    if body.get("return_routed_experts"):
        read = [*input_ids, *output_ids][:-1]
        told["routed_experts"] = packed([e for token in read for layer in experts_of(token) for e in layer])
    return told


def expected_nuclei(sample: Any) -> list[list[int]]:
    """One a response token; none of a token that the model did not sample."""
    ids = sample.tokens[len(sample.tokens) - sample.response_length :]
    return [nucleus_of(token) if trained else [] for token, trained in zip(ids, sample.loss_mask, strict=True)]


def expected_experts(sample: Any, read: int) -> list[list[int]]:
    """One row a token but the last: of ``read`` tokens those of the engine, of the others somebody's."""
    return [[expert for layer in experts_of(token) for expert in layer] for token in sample.tokens[: max(read - 1, 0)]]


def held_nuclei(sample: Any) -> list[list[int]]:
    ids, offsets = (list(map(int, x)) for x in (sample.rollout_top_p_token_ids, sample.rollout_top_p_token_offsets))
    return [ids[start:end] for start, end in pairwise(offsets)]
