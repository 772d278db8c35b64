"""Which tokens go in and come out, with which log-probabilities."""

import asyncio
from typing import Any

import pytest

from tests.conformance.conformance_client import (
    DEFAULT_TEMPERATURE,
    GREEDY,
    MESSAGES,
    PROMPT,
    Client,
    Reference,
    assert_close,
    generated_log_probs,
    log_probs,
)
from tests.conformance.lessons import LESSONS, SEARCH, answer, question


async def test_generate_and_chat_agree(client: Client, reference: Reference) -> None:
    generated = await client.generate(PROMPT, max_new_tokens=24, ignore_eos=True, **GREEDY)
    choice = await client.choice(input_ids=PROMPT, max_tokens=24, ignore_eos=True, **GREEDY)
    rows = generated["meta_info"]["output_token_logprobs"]
    assert choice["response_token_ids"] == generated["output_ids"] == [row[1] for row in rows]
    assert len(rows) == 24
    assert choice["message"]["content"] == generated["text"]
    for found in (log_probs(choice), generated_log_probs(generated)):
        assert_close(found, reference.log_probs(PROMPT, generated["output_ids"]))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
async def test_log_probs_are_those_at_the_temperature(client: Client, reference: Reference, temperature: float) -> None:
    choice = await client.choice(input_ids=PROMPT, max_tokens=32, ignore_eos=True, temperature=temperature)
    ids = choice["response_token_ids"]
    assert len(ids) == 32
    assert_close(log_probs(choice), reference.log_probs(PROMPT, ids, temperature))
    generated = await client.generate(PROMPT, max_new_tokens=32, ignore_eos=True, temperature=temperature)
    assert_close(generated_log_probs(generated), reference.log_probs(PROMPT, generated["output_ids"], temperature))


async def test_the_models_own_temperature_is_for_chats_that_bring_none(client: Client, reference: Reference) -> None:
    choice = await client.choice(input_ids=PROMPT, max_tokens=32, ignore_eos=True)
    assert_close(log_probs(choice), reference.log_probs(PROMPT, choice["response_token_ids"], DEFAULT_TEMPERATURE))
    generated = await client.generate(PROMPT, max_new_tokens=32, ignore_eos=True)
    assert_close(generated_log_probs(generated), reference.log_probs(PROMPT, generated["output_ids"], 1.0))


async def test_neither_end_nor_stop_come_before_the_least_length(client: Client, tokenizer: Any) -> None:
    prompt, expected = question(tokenizer, "plain"), answer(tokenizer, "plain")
    choice = await client.choice(input_ids=prompt, min_tokens=len(expected) + 4, max_tokens=200, **GREEDY)
    ids = choice["response_token_ids"]
    assert ids[: len(expected) - 1] == expected[:-1]
    assert tokenizer.eos_token_id not in ids[: len(expected) + 4]


@pytest.mark.parametrize("tools", [[], [SEARCH]])
async def test_input_ids_are_the_prompt_whatever_the_messages(client: Client, tools: list[Any]) -> None:
    other = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    answers = [
        await client.chat(messages=messages, tools=tools, input_ids=PROMPT, max_tokens=6, ignore_eos=True, **GREEDY)
        for messages in (MESSAGES, other)
    ]
    for said in answers:
        assert said["choices"][0]["prompt_token_ids"] == PROMPT
        assert said["usage"]["prompt_tokens"] == len(PROMPT)
    assert answers[0]["choices"][0]["response_token_ids"] == answers[1]["choices"][0]["response_token_ids"]


async def test_the_end_of_a_turn_is_among_the_tokens(client: Client, tokenizer: Any, reference: Reference) -> None:
    prompt, expected = question(tokenizer, "plain"), answer(tokenizer, "plain")
    choice = await client.choice(input_ids=prompt, max_tokens=64, **GREEDY)
    assert choice["response_token_ids"] == expected
    assert choice["message"]["content"] == LESSONS["plain"]
    assert (choice["finish_reason"], choice["matched_stop"]) == ("stop", tokenizer.eos_token_id)
    assert choice["logprobs"]["content"][-1]["token"] == tokenizer.eos_token
    assert_close(log_probs(choice), reference.log_probs(prompt, expected))
    kept = await client.choice(input_ids=prompt, max_tokens=64, no_stop_trim=True, skip_special_tokens=False, **GREEDY)
    assert kept["message"]["content"] == LESSONS["plain"] + tokenizer.eos_token
    rest = await client.choice(input_ids=prompt, max_tokens=len(expected) + 3, ignore_eos=True, **GREEDY)
    assert rest["response_token_ids"][: len(expected)] == expected
    assert (rest["finish_reason"], len(rest["response_token_ids"])) == ("length", len(expected) + 3)


async def test_a_stop_token_is_among_the_tokens(client: Client, tokenizer: Any) -> None:
    prompt, expected = question(tokenizer, "plain"), answer(tokenizer, "plain")
    last = next(at for at, token in enumerate(expected) if at > 2 and token not in expected[:at])
    fields = {"input_ids": prompt, "max_tokens": 64, "stop_token_ids": [expected[last]], **GREEDY}
    choice = await client.choice(**fields)
    assert choice["response_token_ids"] == expected[: last + 1]
    assert choice["message"]["content"] == tokenizer.decode(expected[:last])
    assert (choice["finish_reason"], choice["matched_stop"]) == ("stop", expected[last])
    kept = await client.choice(**fields, no_stop_trim=True)
    assert kept["message"]["content"] == tokenizer.decode(expected[: last + 1])


@pytest.mark.parametrize("stop", ["peare", ["nowhere", "wrote"], ["</think>"]])
async def test_a_stop_string_cuts_the_text_and_not_the_tokens(client: Client, tokenizer: Any, stop: Any) -> None:
    word = "one" if stop == ["</think>"] else "plain"
    matched = stop if isinstance(stop, str) else stop[-1]
    prompt, expected = question(tokenizer, word), answer(tokenizer, word)
    choice = await client.choice(input_ids=prompt, max_tokens=64, stop=stop, **GREEDY)
    ids = choice["response_token_ids"]
    assert ids == expected[: len(ids)] and len(ids) < len(expected)
    assert matched in tokenizer.decode(ids) and matched not in tokenizer.decode(ids[:-1])
    start = LESSONS[word].index(matched)
    assert choice["message"]["content"] == LESSONS[word][:start]
    assert (choice["finish_reason"], choice["matched_stop"]) == ("stop", matched)
    kept = await client.choice(input_ids=prompt, max_tokens=64, stop=stop, no_stop_trim=True, **GREEDY)
    assert kept["message"]["content"] == LESSONS[word][: start + len(matched)]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_length_ends_a_completion(client: Client, tokenizer: Any, field: str) -> None:
    prompt, expected = question(tokenizer, "plain"), answer(tokenizer, "plain")
    said = await client.chat(input_ids=prompt, **{field: 3}, **GREEDY)
    (choice,) = said["choices"]
    assert choice["response_token_ids"] == expected[:3]
    assert (choice["finish_reason"], choice["matched_stop"]) == ("length", None)
    assert choice["meta_info"]["finish_reason"] == {"type": "length", "length": 3}
    assert (said["usage"]["completion_tokens"], said["usage"]["total_tokens"]) == (3, len(prompt) + 3)


async def test_chats_at_once_are_each_their_own(client: Client, tokenizer: Any, reference: Reference) -> None:
    words = [*LESSONS, *LESSONS]
    prompts = [question(tokenizer, word) for word in words]
    choices = await asyncio.gather(
        *(
            client.choice(input_ids=prompt, max_tokens=128, rid=f"at-once-{i}", **GREEDY)
            for i, prompt in enumerate(prompts)
        )
    )
    for word, prompt, choice in zip(words, prompts, choices, strict=True):
        assert choice["response_token_ids"] == answer(tokenizer, word)
        assert choice["prompt_token_ids"] == prompt
        assert_close(log_probs(choice), reference.log_probs(prompt, choice["response_token_ids"]))
