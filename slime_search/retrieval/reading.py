"""From the bytes of a request to its fields."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from slime_search.retrieval.protocol import Detail, RetrieveRequest, explain

_EXPLAINED_ERRORS = 3
_REREAD_BYTES = 1 << 20
"""A larger body is read once: making Python's objects of it may take longer than it would for the fault to be found."""
_UNREAD = {"loc": (), "type": "json_invalid"}


class InvalidRequest(Exception):
    """A request does not fit; ``details`` say what and how to mend it."""

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.details = [
            Detail(loc=["body", *error["loc"]], msg=explain(error), type=error["type"])
            for error in errors[:_EXPLAINED_ERRORS]
        ]


def read_request(body: bytes, content_type: str) -> RetrieveRequest:
    """Raises InvalidRequest."""
    if content_type != "application/json" and not _is_json(content_type):
        raise InvalidRequest([{**_UNREAD, "msg": "not declared as JSON", "input": content_type}])
    try:
        return RetrieveRequest.model_validate_json(body)
    except ValidationError as error:
        if len(body) > _REREAD_BYTES:
            raise InvalidRequest(error.errors(include_url=False, include_input=False)) from None
    return _read_anew(body)


def _read_anew(body: bytes) -> RetrieveRequest:
    """Takes one string for a list of one, and what Python's parser takes and pydantic's does not."""
    try:
        fields = json.loads(body)
        for name in ("queries", "query"):
            if isinstance(fields, dict) and isinstance(fields.get(name), str):
                fields[name] = [fields[name]]
        return RetrieveRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(error.errors(include_url=False)) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest([{**_UNREAD, "msg": f"not valid JSON: {error}"}]) from None


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
