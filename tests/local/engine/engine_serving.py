"""Tiny random models in Hugging Face folders, and servers of them in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from slime_search.local.engine.model import load_model
from slime_search.local.engine.server import load_tokenizer, running_engine

CONTEXT = 512
EOS, SEARCH = "<|im_end|>", "</search>"
TEXT = (
    "Who founded the company that built the old bridge? The bridge of Dorvin was built by Halmet Works in 1921, "
    "and Halmet Works was founded by Ada Brennick, a clockmaker's daughter. Naïve café, 橋の歴史, ½ price: done."
)


@dataclass(frozen=True)
class TinyModel:
    folder: Path
    tokenizer: PreTrainedTokenizerFast
    reference: PreTrainedModel
    """Never given to an engine."""

    def log_probs(self, prompt: list[int], output: list[int], temperature: float = 1.0) -> torch.Tensor:
        """By a plain forward pass: (output tokens, vocabulary)."""
        with torch.inference_mode():
            logits = self.reference(input_ids=torch.tensor([prompt + output])).logits[0, len(prompt) - 1 : -1]
        return (logits / temperature).log_softmax(-1)


@dataclass(frozen=True)
class Client:
    url: str
    session: aiohttp.ClientSession

    async def call(self, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
        """Status and decoded answer."""
        async with self.session.request(method, self.url + path, json=body) as response:
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text())

    async def generate(self, prompt: list[int], *, rid: str | None = None, **params: Any) -> dict[str, Any]:
        body = {"input_ids": prompt, "sampling_params": params, "return_logprob": True, "rid": rid}
        status, answer = await self.call("/generate", body)
        assert status == 200, answer
        return answer

    async def get(self, path: str) -> Any:
        status, answer = await self.call(path, method="GET")
        assert status == 200, answer
        return answer

    async def until_running(self, count: int) -> None:
        running = None
        while running != count:
            await asyncio.sleep(0.01)
            running = (await self.get("/v1/loads?include=core"))["loads"][0]["num_running_reqs"]


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", EOS, "<search>", SEARCH],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token=EOS)


def save_tiny(folder: Path, architecture: str, seed: int = 0) -> None:
    tokenizer = _tokenizer()
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    if architecture == "qwen2":
        Qwen2ForCausalLM(Qwen2Config(**shape, num_key_value_heads=4, tie_word_embeddings=True)).save_pretrained(folder)
    else:
        LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2, tie_word_embeddings=False)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_model(folder: Path) -> TinyModel:
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return TinyModel(folder, load_tokenizer(folder), reference)


@asynccontextmanager
async def serving(tiny: TinyModel, **settings: Any) -> AsyncIterator[Client]:
    """A server of ``tiny`` on a free port, and a client of it."""
    async with (
        running_engine(tiny.folder, load_model(tiny.folder), tiny.tokenizer, **settings) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Client(url, session)
