"""Log-probabilities of the prompt, against plain forward passes of transformers."""

import asyncio
import random

import pytest
import torch

from tests.local.engine.engine_serving import Client, TinyModel, serving


def scores(answer: dict, prompt: list[int], start: int) -> torch.Tensor:
    """Of the tokens after the first row, which has none."""
    rows = answer["meta_info"]["input_token_logprobs"]
    assert [row[1] for row in rows] == prompt[start:]
    assert rows[0][0] is None
    return torch.tensor([row[0] for row in rows[1:]], dtype=torch.float32)


def expected(tiny: TinyModel, prompt: list[int], start: int) -> torch.Tensor:
    told = tiny.log_probs(prompt[: start + 1], prompt[start + 1 :])
    return told.gather(1, torch.tensor(prompt[start + 1 :], dtype=torch.long)[:, None])[:, 0]


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
async def test_prompts_are_scored_beside_requests_that_generate(
    architecture: str, request: pytest.FixtureRequest
) -> None:
    tiny: TinyModel = request.getfixturevalue(architecture)
    rng = random.Random(0)
    vocabulary = tiny.reference.config.vocab_size
    prompts = [[rng.randrange(vocabulary) for _ in range(rng.randint(2, 150))] for _ in range(40)]
    starts = [rng.randrange(len(prompt)) for prompt in prompts]

    async def run(client: Client, prompt: list[int], start: int, new_tokens: int) -> dict:
        await asyncio.sleep(rng.random() * 0.2)
        body = {
            "input_ids": prompt,
            "sampling_params": {"max_new_tokens": new_tokens, "temperature": 0.0, "ignore_eos": True},
            "return_logprob": True,
            "logprob_start_len": start,
        }
        status, answer = await client.call("/generate", body)
        assert status == 200
        return answer

    async with serving(tiny, max_running_requests=8) as client:
        jobs = [
            run(client, prompt, start if index % 3 else -1, 5 * (index % 2))
            for index, (prompt, start) in enumerate(zip(prompts, starts, strict=True))
        ]
        answers = await asyncio.gather(*jobs)
    for index, (prompt, start, answer) in enumerate(zip(prompts, starts, answers, strict=True)):
        output = answer["output_ids"]
        assert len(output) == 5 * (index % 2)
        if index % 3:
            torch.testing.assert_close(
                scores(answer, prompt, start), expected(tiny, prompt, start), atol=1e-5, rtol=1e-5
            )
        else:
            assert answer["meta_info"]["input_token_logprobs"] == []
        if output:
            assert output == tiny.log_probs(prompt, output).argmax(-1).tolist()


async def test_texts_are_told_on_request(client: Client, qwen2: TinyModel) -> None:
    prompt = qwen2.tokenizer.encode("Who founded")
    body = {
        "input_ids": prompt,
        "sampling_params": {"max_new_tokens": 0, "temperature": 0.3},
        "return_logprob": True,
        "logprob_start_len": 0,
        "return_text_in_logprobs": True,
    }
    _, answer = await client.call("/generate", body)
    rows = answer["meta_info"]["input_token_logprobs"]
    assert [row[2] for row in rows] == [qwen2.tokenizer.decode([i]) for i in prompt]
    assert answer["meta_info"]["finish_reason"] == {"type": "length", "length": 0}
    # A prompt is not scored at the temperature that the completion is sampled with.
    torch.testing.assert_close(scores(answer, prompt, 0), expected(qwen2, prompt, 0), atol=1e-5, rtol=1e-5)


async def test_without_log_probabilities_nothing_is_scored(client: Client, qwen2: TinyModel) -> None:
    body = {"input_ids": qwen2.tokenizer.encode("Who founded"), "logprob_start_len": 0}
    status, answer = await client.call("/generate", body | {"sampling_params": {"max_new_tokens": 1}})
    assert status == 200 and "input_token_logprobs" not in answer["meta_info"]
