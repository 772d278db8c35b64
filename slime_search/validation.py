"""What a value of a user's must be, and what an error of pydantic's means, in words that know nothing of pydantic."""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

_SHOWN_CHARS = 80

_WHOLE = "a whole number"
_NUMBER = "a number"
_MAPPING = "keys with values"
_LIST = "a list"
_KINDS: Mapping[str, str] = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "path_type": "a path",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "none_required": "nothing",
}
_LIMITS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda limit: f"a number above {limit['gt']:g}",
    "greater_than_equal": lambda limit: f"a number of at least {limit['ge']:g}",
    "less_than": lambda limit: f"a number below {limit['lt']:g}",
    "less_than_equal": lambda limit: f"a number of at most {limit['le']:g}",
    "literal_error": lambda limit: f"one of {_listed(limit['expected'])}",
    "enum": lambda limit: f"one of {_listed(limit['expected'])}",
    "string_too_short": lambda limit: f"a text of at least {limit['min_length']} characters",
    "string_too_long": lambda limit: f"a text of at most {limit['max_length']} characters",
    "too_short": lambda limit: f"a list of at least {limit['min_length']}",
    "too_long": lambda limit: f"a list of at most {limit['max_length']}",
}


def reason(error: Mapping[str, Any]) -> str:
    """Why a value is refused, from one of ``ValidationError.errors()``: what is expected, or what our own check says.

    >>> reason({"type": "less_than_equal", "ctx": {"le": 1.0}, "msg": "Input should be less than or equal to 1"})
    'expected is a number of at most 1'
    """
    kind, limits = error["type"], error.get("ctx", {})
    if kind in _KINDS:
        return f"expected {'are' if _KINDS[kind] == _MAPPING else 'is'} {_KINDS[kind]}"
    if kind in _LIMITS:
        return f"expected is {_LIMITS[kind](limits)}"
    match kind:
        case "missing":
            return "it is missing"
        case "extra_forbidden":
            return "there is no such key"
        case "json_invalid":
            return f"not valid JSON ({limits.get('error', error['msg'])})"
    said = str(error["msg"]).removeprefix("Value error, ")
    return re.sub(r"^Input should be ", "expected is ", said)


def check_http_url(url: str) -> None:
    """Raises ValueError where it is not a whole one: it lacks http:// or a host, or its port can't be."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or brackets that do not close
        whole = False
    if not whole:
        raise ValueError(f"{url!r} is not a whole URL; write one such as http://127.0.0.1:8000/retrieve")


def between(low: float | None, high: float | None) -> str:
    """A range of numbers, in words.

    >>> between(1, 65535), between(0, None)
    ('expected is a number from 1 to 65535', 'expected is a number of at least 0')
    """
    if low is None:
        return f"expected is a number of at most {high:g}" if high is not None else f"expected is {_NUMBER}"
    return f"expected is a number of at least {low:g}" if high is None else f"expected is a number from {low} to {high}"


def shown(value: Any) -> str:
    """A value in few characters, without lone surrogates, which could not be sent or printed."""
    if isinstance(value, dict):
        text = f"an object with the keys {list(value)}"
    elif isinstance(value, list):
        text = f"a list of {len(value)}"
    elif isinstance(value, str) and len(value) > _SHOWN_CHARS:
        text = f"{value[:_SHOWN_CHARS]!r}… ({len(value)} characters)"
    else:
        text = repr(value)
    return text[: 2 * _SHOWN_CHARS].encode(errors="backslashreplace").decode()


def field_of(error: Mapping[str, Any]) -> str:
    """The path to the field, such as ``local.search_url`` or ``queries[3]``; empty for the whole."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]]
    return "".join(parts).removeprefix(".")


def _listed(choices: str) -> str:
    """pydantic writes them as ``'a', 'b' or 'c'``."""
    return choices.replace(" or ", ", ")
