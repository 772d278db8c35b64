"""What /generate samples, against plain forward passes of transformers."""

import asyncio
import random
import time

import pytest
import torch

from tests.local.engine.engine_serving import CONTEXT, EOS, Client, TinyModel, serving


def _rows(answer: dict) -> tuple[list[int], torch.Tensor]:
    rows = answer["meta_info"]["output_token_logprobs"]
    assert [row[1] for row in rows] == answer["output_ids"]
    assert all(row[2] is None for row in rows)
    return answer["output_ids"], torch.tensor([row[0] for row in rows])


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
async def test_requests_that_join_and_leave_get_what_each_would_get_alone(
    architecture: str, request: pytest.FixtureRequest
) -> None:
    tiny: TinyModel = request.getfixturevalue(architecture)
    rng = random.Random(0)
    jobs = [
        ([rng.randrange(tiny.reference.config.vocab_size) for _ in range(rng.randint(1, 150))], rng.randint(1, 40))
        for _ in range(40)
    ]

    async def run(client: Client, index: int) -> dict:
        prompt, new_tokens = jobs[index]
        await asyncio.sleep(rng.random() * 0.3)
        temperature = 0.0 if index % 2 else 0.7
        return await client.generate(prompt, max_new_tokens=new_tokens, temperature=temperature, ignore_eos=True)

    async with serving(tiny, max_running_requests=12) as client:
        answers = await asyncio.gather(*(run(client, index) for index in range(len(jobs))))

    for index, ((prompt, new_tokens), answer) in enumerate(zip(jobs, answers, strict=True)):
        output, log_probs = _rows(answer)
        assert len(output) == new_tokens
        expected = tiny.log_probs(prompt, output, temperature=1.0 if index % 2 else 0.7)
        torch.testing.assert_close(
            log_probs, expected.gather(1, torch.tensor(output)[:, None])[:, 0], atol=1e-5, rtol=1e-5
        )
        if index % 2:
            assert output == expected.argmax(-1).tolist()


async def test_the_answer_has_sglangs_shape(client: Client, qwen2: TinyModel) -> None:
    prompt = qwen2.tokenizer.encode("Who founded")
    body = {"input_ids": prompt, "rid": "mine", "sampling_params": {"max_new_tokens": 3, "ignore_eos": True}}
    began = time.perf_counter()
    status, answer = await client.call("/generate", body)
    elapsed_s = time.perf_counter() - began
    assert status == 200
    assert answer.keys() == {"text", "output_ids", "meta_info"}
    meta = answer["meta_info"]
    assert 0 < meta["e2e_latency"] < elapsed_s
    assert meta == meta | {
        "id": "mine",
        "finish_reason": {"type": "length", "length": 3},
        "prompt_tokens": len(prompt),
        "completion_tokens": 3,
        "cached_tokens": 0,
        "weight_version": "default",
        "weight_versions": [{"version": "default", "start": 0, "end": 3}],
    }
    assert answer["text"] == qwen2.tokenizer.decode(answer["output_ids"], skip_special_tokens=True)


async def test_text_is_encoded_by_the_models_tokenizer(client: Client, qwen2: TinyModel) -> None:
    params = {"max_new_tokens": 8, "temperature": 0}
    _, by_text = await client.call("/generate", {"text": "Who founded", "sampling_params": params})
    by_ids = await client.generate(qwen2.tokenizer.encode("Who founded"), **params)
    assert by_text["output_ids"] == by_ids["output_ids"]


async def test_a_seeded_request_draws_the_same_in_any_company(client: Client) -> None:
    async def seeded(seed: int) -> list[int]:
        answer = await client.generate([5, 6, 7], max_new_tokens=20, sampling_seed=seed, ignore_eos=True)
        return answer["output_ids"]

    alone = await seeded(3)
    together = await asyncio.gather(*(seeded(seed) for seed in range(8)))
    assert together[3] == alone
    assert len({tuple(ids) for ids in together}) == 8


async def test_unseeded_requests_follow_the_servers_seed(qwen2: TinyModel) -> None:
    async def two_completions(seed: int) -> list[list[int]]:
        async with serving(qwen2, seed=seed) as client:
            return [(await client.generate([5], max_new_tokens=10))["output_ids"] for _ in range(2)]

    first, again, other = await two_completions(1), await two_completions(1), await two_completions(2)
    assert first == again
    assert first != other
    assert first[0] != first[1]


async def test_a_completion_may_fill_the_context(client: Client) -> None:
    answer = await client.generate([9] * (CONTEXT - 30), max_new_tokens=None, ignore_eos=True)
    assert answer["meta_info"]["finish_reason"] == {"type": "length", "length": 30}
    assert len(answer["output_ids"]) == 30


async def test_no_new_tokens_is_an_empty_completion(client: Client) -> None:
    answer = await client.generate([9], max_new_tokens=0)
    assert (answer["text"], answer["output_ids"]) == ("", [])
    assert answer["meta_info"]["finish_reason"] == {"type": "length", "length": 0}


async def test_eos_waits_for_min_new_tokens(client: Client, qwen2: TinyModel) -> None:
    everything = list(range(qwen2.reference.config.vocab_size))
    stops = [token for token in everything if token != 7]
    answer = await client.generate([5], max_new_tokens=9, min_new_tokens=4, stop_token_ids=stops)
    # Only token 7 is no stop, so it is all that the first four can be.
    assert answer["output_ids"][:4] == [7, 7, 7, 7]
    assert _rows(answer)[1][:4].tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    assert answer["meta_info"]["finish_reason"]["type"] == "stop"


async def test_eos_ends_the_completion_and_is_returned(client: Client, qwen2: TinyModel) -> None:
    eos = qwen2.tokenizer.convert_tokens_to_ids(EOS)
    answers = await asyncio.gather(
        *(client.generate([seed], max_new_tokens=400, temperature=3.0, sampling_seed=seed) for seed in range(8))
    )
    ended = [answer for answer in answers if answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": eos}]
    assert ended
    for answer in ended:
        assert answer["output_ids"].index(eos) == len(answer["output_ids"]) - 1
        assert EOS not in answer["text"]
