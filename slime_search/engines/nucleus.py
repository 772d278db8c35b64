"""The nucleus: the tokens that a sampled one was drawn from, which slime's own build of SGLang tells where it is asked.

slime asks for it with --rollout-top-p below 1, so that its trainer normalises over the same tokens.
"""

import base64
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from slime_search.errors import ProtocolError

_ASKED = "return_top_p_token_ids"
_TOLD = ("top_p_token_ids", "top_p_kept_token_ids")
_OFFSETS = ("top_p_token_offsets", "top_p_kept_token_offsets")


def is_asked_for(sampling_params: Mapping[str, Any]) -> bool:
    """Whether a request with these parameters asks for it."""
    custom = sampling_params.get("custom_params")
    return isinstance(custom, Mapping) and bool(custom.get(_ASKED))


def is_told(meta_info: Mapping[str, Any]) -> bool:
    """Whether an answer with this meta info tells it."""
    return _first(meta_info, _TOLD) is not None


def told(meta_info: Mapping[str, Any]) -> tuple[Sequence[int], Sequence[int]] | None:
    """The tokens of all nuclei one after the other, and the offsets at which each begins, with the last one's end."""
    ids, offsets = _first(meta_info, _TOLD), _first(meta_info, _OFFSETS)
    return None if ids is None or offsets is None else (unpacked(ids), unpacked(offsets))


def _first(meta_info: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((meta_info[key] for key in keys if meta_info.get(key) is not None), None)


def unpacked(numbers: Sequence[int] | str) -> Sequence[int]:
    """Numbers of meta info: a list, or as SGLang packs them, 32 bits each in this machine's byte order, in base64."""
    return array("i", base64.b64decode(numbers)) if isinstance(numbers, str) else numbers


def cut(meta_info: Mapping[str, Any], count: int) -> Mapping[str, Any]:
    """The meta info of an answer of which only the first ``count`` tokens are kept."""
    found = told(meta_info)
    if found is None or len(found[1]) <= count + 1:
        return meta_info
    ids, offsets = found
    others = {key: value for key, value in meta_info.items() if key not in (*_TOLD, *_OFFSETS)}
    return {**others, _TOLD[0]: list(ids[: offsets[count]]), _OFFSETS[0]: list(offsets[: count + 1])}


def refusal(url: str) -> ProtocolError:
    """What to raise where an answer with tokens of the server at ``url`` lacks it."""
    return ProtocolError(
        f"{url}: the answer has no meta_info.{_TOLD[0]} although custom_params.{_ASKED} was sent, and slime can't "
        "train with --rollout-top-p without it. Serve with slime's own build of SGLang, as its image has it, and use a "
        "router that passes the field on; or leave --rollout-top-p out."
    )
