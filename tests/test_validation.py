"""Errors of pydantic in words."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from slime_search.validation import between, field_of, reason, shown


class Inner(BaseModel):
    number: int


CASES: list[tuple[Any, Any, str]] = [
    (int, "x", "expected is a whole number"),
    (int, 1.5, "expected is a whole number"),
    (float, "x", "expected is a number"),
    (bool, "perhaps", "expected is true or false"),
    (str, 3, "expected is a text"),
    (list[int], 3, "expected is a list"),
    (tuple[int, ...], 3, "expected is a list"),
    (dict[str, int], 3, "expected are keys with values"),
    (Inner, 3, "expected are keys with values"),
    (Inner, {}, "it is missing"),
    (Literal["a", "b"], "c", "expected is one of 'a', 'b'"),
    (Annotated[int, Field(ge=1)], 0, "expected is a number of at least 1"),
    (Annotated[float, Field(gt=0.5)], 0, "expected is a number above 0.5"),
    (Annotated[int, Field(le=65535)], 99999, "expected is a number of at most 65535"),
    (Annotated[str, Field(min_length=2)], "a", "expected is a text of at least 2 characters"),
    (Annotated[list[int], Field(max_length=1)], [1, 2], "expected is a list of at most 1"),
]


@pytest.mark.parametrize(("kind", "value", "said"), CASES)
def test_a_reason_is_said_without_the_librarys_words(kind: Any, value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert reason(caught.value.errors()[0]) == said


def test_a_field_is_named_by_its_path() -> None:
    assert field_of({"loc": ("local", "search_url")}) == "local.search_url"
    assert field_of({"loc": ("queries", 3)}) == "queries[3]"
    assert field_of({"loc": ()}) == ""


def test_a_range_is_said_whole() -> None:
    assert between(1, 65535) == "expected is a number from 1 to 65535"
    assert between(None, 2) == "expected is a number of at most 2"


def test_a_long_value_is_cut_and_can_be_sent() -> None:
    assert shown("x" * 200).endswith("(200 characters)")
    assert shown("\ud800").encode() == b"'\\ud800'"
