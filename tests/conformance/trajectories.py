"""Trajectories of the tool-calling recipe on a running server, and the forward pass that judges them."""

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from slime_search.hooks.contract import LocalSample
from slime_search.recipes.base import SearchRecipe
from tests.conformance.conformance_client import Reference, assert_close
from tests.conformance.engine_processes import Server
from tests.conformance.lessons import LESSONS
from tests.support.chat_rollouts import generate_all
from tests.support.rollouts import sampling_params

TRAJECTORIES = 64
TURN_TOKENS = 128
WORDS = ("one", "two", "plain", "broken", "other", "open")
TAG_WORDS = ("seek", "given", "plain", "one")
"""The questions for the recipe of tags; the last is answered in the other's notation."""
assert {*WORDS, *TAG_WORDS} <= set(LESSONS)


def arguments(server: Server) -> Namespace:
    return Namespace(
        hf_checkpoint=str(server.model_path),
        sglang_router_ip="127.0.0.1",
        sglang_router_port=int(server.url.rpartition(":")[2]),
        sglang_server_concurrency=TRAJECTORIES,
        rollout_num_engines=1,
        rollout_max_context_len=1024,
        reward_key=None,
    )


def asked(*, as_text: bool, words: Sequence[str] = WORDS) -> list[LocalSample]:
    """Questions that the model has learned when they come as text, and new ones when the template adds the tools."""
    samples = []
    for n in range(TRAJECTORIES):
        word = words[n % len(words)]
        text = f"<|im_start|>user\n{word}<|im_end|>\n<|im_start|>assistant\n"
        prompt = text if as_text else [{"role": "user", "content": word}]
        samples.append(LocalSample(index=n, prompt=prompt, label="x", session_id=f"session-{n}"))
    return samples


def played(
    recipe: SearchRecipe[Any],
    server: Server,
    samples: Sequence[LocalSample],
    temperature: float = 1.0,
    *,
    top_p: float = 1.0,
    turn_tokens: int = TURN_TOKENS,
) -> list[list[LocalSample]]:
    params = sampling_params(max_new_tokens=turn_tokens, temperature=temperature, top_p=top_p)
    results = generate_all(recipe, arguments(server), samples, params)
    return [result if isinstance(result, list) else [result] for result in results]


def assert_exact(samples: Sequence[LocalSample], reference: Reference, temperature: float = 1.0) -> float:
    """Each sampled token's log-probability is that of a forward pass over the sample, at the temperature that the
    engine's are of: 1 where it decodes greedily. Returns the largest difference, in nats."""
    worst = 0.0
    for sample in samples:
        assert sample.loss_mask is not None and sample.rollout_log_probs is not None
        start = len(sample.tokens) - sample.response_length
        expected = reference.log_probs(sample.tokens[:start], sample.tokens[start:], temperature or 1.0)
        own = [n for n, mask in enumerate(sample.loss_mask) if mask]
        found = [sample.rollout_log_probs[n] for n in own]
        assert_close(found, expected[own])
        worst = max(worst, *(abs(a - b) for a, b in zip(found, expected[own].tolist(), strict=True)), 0.0)
    return worst
