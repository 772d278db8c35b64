"""New weights for a running engine."""

import asyncio
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.local.engine.engine_serving import Client, TinyModel, serving

GREEDY = {"max_new_tokens": 12, "temperature": 0, "ignore_eos": True}


async def _update(client: Client, folder: Path, version: str | None = None) -> tuple[int, dict]:
    return await client.call("/update_weights_from_disk", {"model_path": str(folder), "weight_version": version})


def _greedy(tiny: TinyModel, size: int) -> list[int]:
    ids = [5, 6]
    for _ in range(size):
        ids.append(int(tiny.log_probs(ids, [0]).argmax()))
    return ids[2:]


async def test_new_weights_answer_under_their_version(client: Client, qwen2: TinyModel, other_qwen2: TinyModel) -> None:
    before = await client.generate([5, 6], **GREEDY)
    status, answer = await _update(client, other_qwen2.folder, "2")
    assert (status, answer["success"], answer["num_paused_requests"]) == (200, True, 0)
    after = await client.generate([5, 6], **GREEDY)
    assert before["output_ids"] == _greedy(qwen2, 12)
    assert after["output_ids"] == _greedy(other_qwen2, 12) != before["output_ids"]
    assert (before["meta_info"]["weight_version"], after["meta_info"]["weight_version"]) == ("default", "2")
    info = await client.get("/model_info")
    assert (info["weight_version"], info["model_path"]) == ("2", str(other_qwen2.folder))
    await _update(client, qwen2.folder)
    assert (await client.generate([5, 6], **GREEDY))["meta_info"]["weight_version"] == "2"


async def test_a_running_request_goes_on_with_the_new_weights(
    client: Client, qwen2: TinyModel, other_qwen2: TinyModel
) -> None:
    task = asyncio.create_task(client.generate([5, 6], max_new_tokens=500, sampling_seed=4, ignore_eos=True))
    await client.until_running(1)
    await _update(client, other_qwen2.folder, "2")
    answer = await task
    old, new = answer["meta_info"]["weight_versions"]
    assert (old["version"], new["version"], answer["meta_info"]["weight_version"]) == ("default", "2", "2")
    swap = old["end"]
    assert 0 == old["start"] < swap == new["start"] < new["end"] == len(answer["output_ids"]) == 500
    given = torch.tensor([row[0] for row in answer["meta_info"]["output_token_logprobs"]])
    chosen = torch.tensor(answer["output_ids"])[:, None]
    by_old = qwen2.log_probs([5, 6], answer["output_ids"]).gather(1, chosen)[:, 0]
    torch.testing.assert_close(given[:swap], by_old[:swap], atol=1e-5, rtol=1e-5)
    assert (given[swap] - by_old[swap]).abs() > 1e-3


def _damaged(tiny: TinyModel, folder: Path, damage: str) -> Path:
    shutil.copytree(tiny.folder, folder)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    match damage:
        case "missing":
            del tensors[name]
        case "misshapen":
            tensors[name] = tensors[name][:-1].contiguous()
        case "unknown":
            tensors["model.layers.9.extra"] = torch.zeros(1)
        case "nan":
            tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("missing", ["model.layers.0.mlp.up_proj.weight", "missing"]),
        ("misshapen", ["model.layers.0.mlp.up_proj.weight", "[47, 32]", "[48, 32]"]),
        ("unknown", ["model.layers.9.extra"]),
    ],
)
async def test_weights_that_do_not_fit_are_refused_by_name_and_the_old_ones_stay(
    client: Client, qwen2: TinyModel, other_qwen2: TinyModel, tmp_path: Path, damage: str, words: list[str]
) -> None:
    status, answer = await _update(client, _damaged(other_qwen2, tmp_path / "bad", damage), "2")
    assert (status, answer["success"]) == (400, False)
    assert all(word in answer["message"] for word in words), answer
    after = await client.generate([5, 6], **GREEDY)
    assert after["output_ids"] == _greedy(qwen2, 12)
    assert after["meta_info"]["weight_version"] == "default"


async def test_a_folder_without_readable_weights_is_refused_by_name(client: Client, tmp_path: Path) -> None:
    status, answer = await _update(client, tmp_path)
    assert status == 400 and str(tmp_path) in answer["message"]
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    status, answer = await _update(client, tmp_path)
    assert status == 400 and "model.safetensors" in answer["message"]


async def test_weights_that_are_no_numbers_fail_requests_until_good_ones_come(
    client: Client, qwen2: TinyModel, tmp_path: Path
) -> None:
    assert (await _update(client, _damaged(qwen2, tmp_path / "nan", "nan")))[0] == 200
    for _ in range(2):
        # Longer than the next request, whose row must not hold what this one leaves there.
        status, answer = await client.call("/generate", {"input_ids": [5, 6] * 20, "sampling_params": GREEDY})
        assert status == 500 and "not finite" in answer["error"]["message"]
    await _update(client, qwen2.folder)
    assert (await client.generate([5, 6], **GREEDY))["output_ids"] == _greedy(qwen2, 12)


async def test_untied_weights_are_updated_too(llama: TinyModel, tmp_path: Path) -> None:
    shutil.copytree(llama.folder, tmp_path / "next")
    tensors = load_file(tmp_path / "next" / "model.safetensors")
    tensors["lm_head.weight"] = torch.zeros_like(tensors["lm_head.weight"])
    save_file(tensors, tmp_path / "next" / "model.safetensors")
    async with serving(llama) as client:
        assert (await _update(client, tmp_path / "next"))[0] == 200
        answer = await client.generate([5, 6], max_new_tokens=3, ignore_eos=True)
    uniform = -torch.tensor(float(llama.reference.config.vocab_size)).log().item()
    assert [row[0] for row in answer["meta_info"]["output_token_logprobs"]] == pytest.approx([uniform] * 3, abs=1e-5)
