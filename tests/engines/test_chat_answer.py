"""Answers of chat servers, in the shapes that they were recorded in, and the shapes they must not have."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.core.engine import Finish
from slime_search.engines.chat_answer import ChatAnswer, NoTokenIds, read_chat_answer
from slime_search.errors import ProtocolError, TransientFault

PROMPT, IDS, LOG_PROBS = [151644, 872, 198], [9707, 11, 151645], [-0.25, -1.5, -0.001]
USAGE = {"prompt_tokens": 3, "total_tokens": 6, "completion_tokens": 3, "prompt_tokens_details": None}
MESSAGE = {"role": "assistant", "content": "Hello,", "reasoning_content": None, "tool_calls": None}


def entries(**fields: list[Any]) -> list[dict[str, Any]]:
    """``logprobs.content``, with ``fields`` beside each log-probability."""
    names = list(fields)
    rows = zip(LOG_PROBS, *fields.values(), strict=True)
    return [{"bytes": None, "top_logprobs": [], "logprob": p, **dict(zip(names, row, strict=True))} for p, *row in rows]


def sglang() -> dict[str, Any]:
    meta = {
        "id": "a1",
        "finish_reason": {"type": "stop", "matched": 151645},
        "prompt_tokens": 3,
        "weight_version": "default",
        "completion_tokens": 3,
        "cached_tokens": 2,
        "output_token_logprobs": [[p, i, None] for p, i in zip(LOG_PROBS, IDS, strict=True)],
    }
    choice = {
        "index": 0,
        "message": dict(MESSAGE),
        "logprobs": {"content": entries(token=["Hello", ",", "<|im_end|>"])},
        "finish_reason": "stop",
        "matched_stop": 151645,
        "prompt_token_ids": PROMPT,
        "response_token_ids": IDS,
        "meta_info": meta,
    }
    return {"id": "a1", "object": "chat.completion", "model": "default", "choices": [choice], "usage": dict(USAGE)}


def without_meta_info() -> dict[str, Any]:
    body = sglang()
    del body["choices"][0]["meta_info"]
    return body


def meta_info_only() -> dict[str, Any]:
    body = sglang()
    for name in ("prompt_token_ids", "response_token_ids", "logprobs"):
        del body["choices"][0][name]
    return body


def patched_sglang() -> dict[str, Any]:
    body = text_only()
    body["choices"][0]["logprobs"] = {"content": entries(token=["Hello", ",", "<|im_end|>"], token_id=IDS)}
    return body


def vllm() -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {**MESSAGE, "refusal": None, "annotations": None},
        "logprobs": {"content": entries(token=[f"token_id:{i}" for i in IDS])},
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": IDS,
    }
    return {"id": "b2", "choices": [choice], "usage": dict(USAGE), "prompt_token_ids": PROMPT}


def older_vllm() -> dict[str, Any]:
    body = vllm()
    del body["prompt_token_ids"], body["choices"][0]["token_ids"]
    return body


def text_only() -> dict[str, Any]:
    """OpenAI's API, and SGLang before July 2026."""
    choice = {
        "index": 0,
        "message": dict(MESSAGE),
        "logprobs": {"content": entries(token=["Hello", ",", "<|im_end|>"])},
        "finish_reason": "stop",
    }
    return {"id": "c3", "choices": [choice], "usage": dict(USAGE)}


RECORDED: dict[str, tuple[Callable[[], dict[str, Any]], str, list[int] | None]] = {
    "SGLang": (sglang, "response_token_ids", PROMPT),
    "SGLang without meta info": (without_meta_info, "response_token_ids", PROMPT),
    "SGLang's meta info alone": (meta_info_only, "meta_info.output_token_logprobs", None),
    "patched SGLang": (patched_sglang, "logprobs.content[].token_id", None),
    "vLLM": (vllm, "token_ids", PROMPT),
    "vLLM before return_token_ids": (older_vllm, "logprobs.content[].token", None),
}


def read(body: Any, *, with_log_probs: bool = True) -> ChatAnswer:
    return read_chat_answer(body, with_log_probs=with_log_probs)


@pytest.mark.parametrize(("body", "source", "prompt_ids"), RECORDED.values(), ids=RECORDED)
def test_what_servers_answer(body: Callable[[], dict[str, Any]], source: str, prompt_ids: list[int] | None) -> None:
    answer = read(body())
    assert (answer.token_ids, answer.log_probs) == (IDS, LOG_PROBS)
    assert (answer.source, answer.prompt_ids, answer.prompt_tokens) == (source, prompt_ids, 3)
    assert answer.finish is Finish.STOP
    assert answer.meta_info["finish_reason"]["type"] == "stop"
    assert (answer.meta_info["prompt_tokens"], answer.meta_info["completion_tokens"]) == (3, 3)
    assert "output_token_logprobs" not in answer.meta_info


def test_slime_reads_sglangs_own_meta_info() -> None:
    meta = read(sglang()).meta_info
    assert (meta["weight_version"], meta["cached_tokens"]) == ("default", 2)


def test_a_stop_with_calls_is_a_stop_to_slime() -> None:
    body = sglang()
    body["choices"][0]["finish_reason"] = "tool_calls"
    body["choices"][0]["meta_info"]["finish_reason"] = {"type": "tool_calls", "matched": None}
    answer = read(body)
    assert (answer.finish, answer.meta_info["finish_reason"]) == (Finish.STOP, {"type": "stop"})


@pytest.mark.parametrize("body", [sglang, vllm])
def test_log_probabilities_may_be_left_out(body: Callable[[], dict[str, Any]]) -> None:
    given_body = body()
    given_body["choices"][0]["logprobs"] = None
    given_body["choices"][0].pop("meta_info", None)
    answer = read(given_body, with_log_probs=False)
    assert (answer.token_ids, answer.log_probs) == (IDS, None)


@pytest.mark.parametrize("reason", ["length", "abort"])
def test_other_reasons_to_finish(reason: str) -> None:
    body = sglang()
    body["choices"][0]["finish_reason"] = reason
    assert read(body).finish == Finish(reason)


def test_an_abort_before_the_first_token_has_no_ids() -> None:
    body = text_only()
    body["choices"][0] |= {"finish_reason": "abort", "logprobs": None}
    answer = read(body)
    assert (answer.finish, answer.token_ids, answer.log_probs) == (Finish.ABORT, [], [])
    assert answer.meta_info == {"finish_reason": {"type": "abort"}, "completion_tokens": 0, "prompt_tokens": 3}


def test_text_alone_is_told_apart() -> None:
    with pytest.raises(NoTokenIds):
        read(text_only())
    body = older_vllm()
    body["choices"][0]["logprobs"]["content"][1]["token"] = ","
    with pytest.raises(NoTokenIds):
        read(body)


def edit(make: Callable[[], dict[str, Any]], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    body = make()
    change(body["choices"][0])
    return body


def set_in(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(choice: Any) -> None:
        for key in path[:-1]:
            choice = choice[key]
        choice[path[-1]] = to

    return change


UNTRAINABLE = {
    "other ids": (edit(sglang, set_in("response_token_ids", to=[1, 2, 3])), "response_token_ids holds 3 token ids"),
    "fewer ids": (edit(vllm, set_in("token_ids", to=IDS[:2])), "token_ids holds 2 token ids"),
    "fewer rows": (
        edit(without_meta_info, lambda choice: choice["logprobs"]["content"].pop()),
        "3 token ids and 2 log-probabilities",
    ),
    "no log-probabilities": (edit(vllm, set_in("logprobs", to=None)), "3 token ids and 0 log-probabilities"),
    "a null": (edit(vllm, set_in("logprobs", "content", 1, "logprob", to=None)), "finite"),
    "not a number": (edit(vllm, set_in("logprobs", "content", 1, "logprob", to=float("nan"))), "finite"),
    "minus infinity": (edit(sglang, set_in("meta_info", "output_token_logprobs", 0, 0, to=-float("inf"))), "finite"),
    "a word": (edit(sglang, set_in("meta_info", "output_token_logprobs", 0, 0, to="-1")), "finite"),
    "a truth value": (edit(sglang, set_in("meta_info", "output_token_logprobs", 0, 0, to=True)), "finite"),
}


@pytest.mark.parametrize(("body", "message"), UNTRAINABLE.values(), ids=UNTRAINABLE)
def test_an_answer_that_can_not_be_trained_on(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(body)
    assert message in str(caught.value)
    assert not isinstance(caught.value, NoTokenIds)


GARBAGE: dict[str, Any] = {
    "nothing": None,
    "text": "<html>",
    "a list": [],
    "an error": {"error": {"message": "busy"}},
    "no choice": {"choices": []},
    "a choice that is none": {"choices": ["x"]},
    "no message": {"choices": [{"finish_reason": "stop"}]},
    "no reason": {"choices": [{"message": {"role": "assistant"}, "finish_reason": None}]},
    "an unknown reason": edit(sglang, set_in("finish_reason", to="content_filter")),
    "meta info of another kind": edit(sglang, set_in("meta_info", to=[1])),
    "log-probabilities of another kind": edit(vllm, set_in("logprobs", to="none")),
    "rows of another kind": edit(vllm, set_in("logprobs", "content", to=[["Hello", -0.2]])),
    "short rows": edit(sglang, set_in("meta_info", "output_token_logprobs", to=[[-0.2]])),
    "usage of another kind": {**sglang(), "usage": 6},
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_answer_may_be_one_next_time(body: Any) -> None:
    with pytest.raises(TransientFault, match=r"not an answer of /v1/chat/completions"):
        read(body)


junk = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=3)
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, below in inner for path in paths(below, (*at, key)))]


@given(make=st.sampled_from([sglang, patched_sglang, vllm, text_only]), data=st.data(), with_log_probs=st.booleans())
def test_any_junk_anywhere_is_an_answer_or_a_typed_error(
    make: Callable[[], dict[str, Any]], data: st.DataObject, with_log_probs: bool
) -> None:
    body = copy.deepcopy(make())
    path = data.draw(st.sampled_from(paths(body)[1:]))
    set_in(*path, to=data.draw(junk | st.dictionaries(st.text(max_size=2), junk, max_size=2)))(body)
    try:
        answer = read(body, with_log_probs=with_log_probs)
    except (TransientFault, ProtocolError):
        return
    assert all(type(i) is int for i in answer.token_ids)
    assert answer.log_probs is None or len(answer.log_probs) == len(answer.token_ids)
