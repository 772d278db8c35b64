"""A model with a bug, and models that can't be served."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from transformers import Qwen2ForCausalLM

from slime_search.local.engine.model import BatchedModel, ModelError, load_model
from slime_search.local.engine.server import load_tokenizer, running_engine
from tests.local.engine.engine_serving import Client, TinyModel

POISON = 9


class Buggy(Qwen2ForCausalLM):
    """Fails on one token."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if (kwargs["input_ids"] == POISON).any():
            raise RuntimeError("poisoned")
        return super().forward(*args, **kwargs)


async def test_a_failing_step_fails_its_requests_and_no_others(
    qwen2: TinyModel, caplog: pytest.LogCaptureFixture
) -> None:
    model = Buggy.from_pretrained(qwen2.folder)
    async with (
        running_engine(qwen2.folder, model, qwen2.tokenizer) as url,
        aiohttp.ClientSession() as session,
    ):
        client = Client(url, session)
        running = asyncio.create_task(client.generate([5, 6], max_new_tokens=300, temperature=0, ignore_eos=True))
        await client.until_running(1)
        status, answer = await client.call("/generate", {"input_ids": [5, POISON]})
        assert status == 500
        assert answer["error"]["type"] == "InternalServerError" and "poisoned" in answer["error"]["message"]
        assert "Traceback" in caplog.text
        body = {"messages": [{"role": "user", "content": ""}], "input_ids": [5, POISON]}
        status, answer = await client.call("/v1/chat/completions", body)
        assert status == answer["code"] == 500
        assert answer["type"] == "InternalServerError" and "poisoned" in answer["message"]
        unharmed = await running
        assert unharmed["output_ids"] == qwen2.log_probs([5, 6], unharmed["output_ids"]).argmax(-1).tolist()

        # The poison comes as a sampled token: the decode step fails, with all the requests in it.
        doomed = {"max_new_tokens": 500, "min_new_tokens": 500, "stop_token_ids": _all_but(POISON, qwen2)}
        status, answer = await client.call("/generate", {"input_ids": [5], "sampling_params": doomed})
        assert status == 500
        again = await client.generate([5, 6], max_new_tokens=300, temperature=0, ignore_eos=True)
        assert again["output_ids"] == unharmed["output_ids"]


def _all_but(token: int, tiny: TinyModel) -> list[int]:
    return [other for other in range(tiny.reference.config.vocab_size) if other != token]


def test_a_folder_without_a_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_model(tmp_path)
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_tokenizer(tmp_path)


def test_a_model_with_sliding_windows_is_refused(qwen2: TinyModel, tmp_path: Path) -> None:
    shutil.copytree(qwen2.folder, tmp_path / "sliding")
    path = tmp_path / "sliding" / "config.json"
    config = json.loads(path.read_text()) | {"layer_types": ["full_attention", "sliding_attention"]}
    path.write_text(json.dumps(config | {"use_sliding_window": True, "sliding_window": 8}))
    with pytest.raises(ModelError, match="sliding_attention"):
        BatchedModel(load_model(tmp_path / "sliding"), max_rows=1, context_length=8)


def test_a_context_beyond_the_models_positions_is_refused(qwen2: TinyModel) -> None:
    with pytest.raises(ModelError, match="9999"):
        BatchedModel(load_model(qwen2.folder), max_rows=1, context_length=9999)
