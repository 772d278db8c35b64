"""SGLang's sampling parameters: their names, defaults, ranges and the ones this engine does not have."""

from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from slime_search.validation import reason

MAX_STOP_STRINGS = 32
_GREEDY_BELOW = 1e-6

# SGLang's other parameters, each with the values at which it does nothing. Null always does nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "min_p": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "n": (1,),
    "beam_width": (1,),
    "stop_regex": ("", []),
    "json_schema": ("",),
    "regex": ("",),
    "ebnf": ("",),
    "structural_tag": ("",),
    "logit_bias": ({},),
    "watermark": (),
}

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class BadRequest(ValueError):
    """The request can't be served; the message names the field, the value and the fix."""


def drop_neutral(fields: Any, neutral: dict[str, tuple[Any, ...]]) -> Any:
    """``fields`` without those of ``neutral`` that are null or do nothing.

    Raises:
        ValueError: one of them asks for something.
    """
    if not isinstance(fields, dict):
        return fields
    for name, allowed in neutral.items():
        if (value := fields.get(name)) is not None and value not in allowed:
            raise ValueError(f"{name} = {value!r} is not supported by this engine; leave it out")
    return {name: value for name, value in fields.items() if name not in neutral}


def _as_tuple(value: Any) -> Any:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class SamplingParams(BaseModel):
    """How to choose the tokens of one completion. Absent and null fields take SGLang's defaults."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    max_new_tokens: Annotated[int, Field(ge=0)] | None = 128
    """Null: as many as the context holds."""
    min_new_tokens: Annotated[int, Field(ge=0)] = 0
    """Until then EOS and ``stop_token_ids`` can't be sampled; stop strings still end the completion."""
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """0: greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: int = -1
    """-1: the whole vocabulary."""
    stop: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        BeforeValidator(_as_tuple),
        Field(max_length=MAX_STOP_STRINGS),
    ] = ()
    stop_token_ids: Annotated[tuple[int, ...], BeforeValidator(_as_tuple)] = ()
    ignore_eos: bool = False
    """Neither EOS nor ``stop_token_ids`` end the completion."""
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    no_stop_trim: bool = False
    sampling_seed: Seed | None = None
    custom_params: Any = None
    stream_interval: Any = None

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, fields: Any) -> Any:
        fields = drop_neutral(fields, _NEUTRAL)
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None or name == "max_new_tokens"}

    @model_validator(mode="after")
    def _check(self) -> "SamplingParams":
        if self.top_k < 1 and self.top_k != -1:
            raise ValueError(f"top_k must be -1 (off) or at least 1, got {self.top_k}")
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens must be in [0, max_new_tokens ({self.max_new_tokens})], got {self.min_new_tokens}"
            )
        return self

    @property
    def greedy(self) -> bool:
        return self.temperature < _GREEDY_BELOW or self.top_k == 1

    @property
    def softmax_temperature(self) -> float:
        """What logits are divided by: at temperature 0, the likeliest token of the unscaled distribution is taken."""
        return self.temperature if self.temperature >= _GREEDY_BELOW else 1.0


def refuse(error: ValidationError) -> NoReturn:
    """Raises the first complaint of ``error`` as a `BadRequest` that names the field and the value."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = reason(first)
    if first["type"] == "value_error":
        raise BadRequest(f"{field}: {message}" if field else message) from None
    if first["type"] == "extra_forbidden":
        message = "no such parameter"
    raise BadRequest(f"{field or 'the body'}: {message}, got {first['input']!r:.200}") from None
