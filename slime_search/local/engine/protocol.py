"""SGLang's ``/generate`` on the wire: the request's body and the answer's."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from slime_search.local.engine.params import SamplingParams, drop_neutral, refuse
from slime_search.local.engine.sequences import Aborted, Completion, Finish, LengthReached, Stopped

# What SGLang's /generate offers and this engine does not, with the values at which it asks for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "input_embeds": (),
    "image_data": ([],),
    "video_data": ([],),
    "audio_data": ([],),
    "top_logprobs_num": (0,),
    "token_ids_logprob": ([],),
    "return_hidden_states": (False,),
    "return_routed_experts": (False,),
    "return_sampling_mask": (False,),
    "custom_logit_processor": (),
    "session_params": (),
    "lora_path": (),
    "stream": (False,),
}


def _single(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], list | str):
        raise ValueError("a batch of prompts; this engine takes one prompt a request")
    return value


class GenerateBody(BaseModel):
    """One request. Fields that are not SGLang's are ignored, as SGLang does."""

    model_config = ConfigDict(strict=True, frozen=True)

    input_ids: Annotated[list[int] | None, BeforeValidator(_single)] = None
    text: Annotated[str | None, BeforeValidator(_single)] = None
    sampling_params: SamplingParams = SamplingParams()
    return_logprob: bool = False
    logprob_start_len: Annotated[int, Field(ge=-1)] = -1
    """Place of the prompt's token from which on log-probabilities are returned; -1: of the completion's alone."""
    return_text_in_logprobs: bool = False
    rid: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, fields: Any) -> Any:
        fields = drop_neutral(fields, _NEUTRAL)
        return {k: v for k, v in fields.items() if v is not None} if isinstance(fields, dict) else fields

    @model_validator(mode="after")
    def _check(self) -> "GenerateBody":
        if (self.input_ids is None) == (self.text is None):
            raise ValueError("give either input_ids or text")
        return self

    @property
    def score_from(self) -> int | None:
        return self.logprob_start_len if self.return_logprob and self.logprob_start_len >= 0 else None


def parse_generate(body: Any) -> GenerateBody:
    """The request in a decoded JSON body.

    Raises:
        BadRequest: it is malformed, or asks for what this engine does not have.
    """
    try:
        return GenerateBody.model_validate(body)
    except ValidationError as error:
        refuse(error)


def generate_answer(
    rid: str,
    prompt_ids: Sequence[int],
    completion: Completion,
    text: str,
    *,
    body: GenerateBody,
    token_text: Callable[[int], str],
    e2e_latency_s: float,
) -> dict[str, Any]:
    def texts(token_ids: Sequence[int]) -> list[str | None]:
        return [token_text(i) if body.return_text_in_logprobs else None for i in token_ids]

    meta = meta_info(
        rid, prompt_ids, completion, texts(completion.output_ids) if body.return_logprob else None, e2e_latency_s
    )
    if completion.input_log_probs is not None:
        # The first of them follows no token that was asked about.
        scored = prompt_ids[len(prompt_ids) - len(completion.input_log_probs) - 1 :]
        log_probs = [None, *completion.input_log_probs]
        meta["input_token_logprobs"] = list(zip(log_probs, scored, texts(scored), strict=True))
    return {"text": text, "output_ids": completion.output_ids, "meta_info": meta}


def meta_info(
    rid: str,
    prompt_ids: Sequence[int],
    completion: Completion,
    token_texts: Sequence[str | None] | None,
    e2e_latency_s: float,
) -> dict[str, Any]:
    """All that SGLang tells of a completion; its log-probabilities if there are ``token_texts``, one a token."""
    meta = {
        "id": rid,
        "finish_reason": finish_reason(completion.finish),
        "completion_tokens": len(completion.output_ids),
        "weight_version": completion.weights[-1].version,
        "weight_versions": [asdict(span) for span in completion.weights],
        "e2e_latency": e2e_latency_s,
        "response_sent_to_client_ts": time.time(),
    }
    if not isinstance(completion.finish, Aborted) or completion.finish.ran:
        meta |= {
            "prompt_tokens": len(prompt_ids),
            "reasoning_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": None,
            "num_retractions": 0,
            "dp_rank": None,
        }
    if token_texts is not None:
        meta["input_token_logprobs"] = []
        meta["output_token_logprobs"] = list(zip(completion.log_probs, completion.output_ids, token_texts, strict=True))
        meta["output_token_logprobs_length"] = len(completion.output_ids)
    return meta


def finish_reason(finish: Finish) -> dict[str, Any]:
    match finish:
        case Stopped(matched):
            return {"type": "stop", "matched": matched}
        case LengthReached(length):
            return {"type": "length", "length": length}
        case Aborted(message, ran):
            rest = {"status_code": None, "err_type": None} if ran else {}
            return {"type": "abort", "message": message, **rest}


def error_answer(message: str, status: int) -> dict[str, Any]:
    kind = "BadRequestError" if status == 400 else "InternalServerError" if status >= 500 else "RequestError"
    return {"error": {"message": message, "type": kind, "code": status}}
