"""Requests to an engine, and what a plain forward pass says about its answers."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import torch
from transformers import DynamicCache, PreTrainedModel

MESSAGES = [{"role": "user", "content": "Who wrote the tragedy?"}]
ALL_IDS = {"logprobs": True, "return_token_ids": True, "return_meta_info": True}
PROMPT = [5, 261, 17, 300, 42, 9]
"""Tokens that no template would render."""
GREEDY = {"temperature": 0.0}
DEFAULT_TEMPERATURE = 0.8
"""In the model's ``generation_config.json``."""


@dataclass(frozen=True)
class Client:
    url: str
    session: aiohttp.ClientSession

    async def call(self, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
        """Status and decoded answer."""
        async with self.session.request(method, self.url + path, json=body) as response:
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text())

    async def get(self, path: str) -> Any:
        status, answer = await self.call(path, method="GET")
        assert status == 200, answer
        return answer

    async def generate(self, input_ids: list[int], **params: Any) -> dict[str, Any]:
        body = {"input_ids": input_ids, "sampling_params": params, "return_logprob": True}
        status, answer = await self.call("/generate", body)
        assert status == 200, answer
        return answer

    async def chat(self, **fields: Any) -> dict[str, Any]:
        """The answer; asks for everything about tokens unless ``fields`` say otherwise."""
        status, answer = await self.call("/v1/chat/completions", {"messages": MESSAGES} | ALL_IDS | fields)
        assert status == 200, answer
        return answer

    async def choice(self, **fields: Any) -> dict[str, Any]:
        (choice,) = (await self.chat(**fields))["choices"]
        return choice

    async def until_running(self, count: int) -> None:
        running = None
        while running != count:
            await asyncio.sleep(0.02)
            running = (await self.get("/v1/loads?include=core"))["loads"][0]["num_running_reqs"]


@dataclass(frozen=True)
class Reference:
    """The served model in transformers."""

    model: PreTrainedModel

    def log_probs(self, prompt: list[int], output: list[int], temperature: float = 1.0) -> torch.Tensor:
        """Of the tokens of ``output``, one each."""
        with torch.inference_mode():
            logits = self.logits(prompt + output, len(prompt) - 1)[:-1]
        return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(output)[:, None])[:, 0]

    def logits(self, ids: list[int], first: int) -> torch.Tensor:
        """After each token from ``first`` on."""
        return self.model(input_ids=torch.tensor([ids])).logits[0, first:]


@dataclass(frozen=True)
class SharingReference(Reference):
    """Computes what a sequence has in common with the one before it once. For models whose forward pass takes long."""

    _cache: DynamicCache = field(default_factory=DynamicCache)
    _held: list[int] = field(default_factory=list)

    def logits(self, ids: list[int], first: int) -> torch.Tensor:
        pairs = enumerate(zip(self._held, ids[:first], strict=False))
        common = next((at for at, (a, b) in pairs if a != b), min(len(self._held), first))
        if len(self._held) > common:
            self._cache.crop(common - len(self._held))
        self._held[:] = ids
        found = self.model(input_ids=torch.tensor([ids[common:]]), past_key_values=self._cache, use_cache=True).logits
        return found[0, first - common :]


def log_probs(choice: dict[str, Any]) -> list[float]:
    """Of a chat's tokens."""
    return [entry["logprob"] for entry in choice["logprobs"]["content"]]


def generated_log_probs(answer: dict[str, Any]) -> list[float]:
    """Of the tokens that ``/generate`` answered."""
    return [row[0] for row in answer["meta_info"]["output_token_logprobs"]]


def assert_close(found: list[float], expected: torch.Tensor) -> None:
    torch.testing.assert_close(torch.tensor(found), expected, atol=1e-4, rtol=0)
