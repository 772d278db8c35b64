"""The checkpoint, its tokenizer and its template."""

import json
from pathlib import Path

import pytest

from slime_search.ops.doctor import model
from slime_search.ops.doctor.checkpoint import read_checkpoint
from slime_search.ops.doctor.examine import carry_out
from slime_search.ops.doctor.results import Result, Status
from tests.ops.doctor.doctor_site import Site, save_weights, statuses, the
from tests.support.tokenizers import save_qwen_like, save_with_tag_tokens


def look(site: Site) -> list[Result]:
    setup = site.setup()
    return [result for check in model.CHECKS for result in carry_out(check, setup)]


def test_a_model_that_is_whole(site: Site) -> None:
    found = look(site)
    assert statuses(found) == {
        "HF_CHECKPOINT": Status.PASS,
        "REF_LOAD": Status.SKIP,
        "tokenizer": Status.PASS,
        "chat template": Status.PASS,
        "tags": Status.PASS,
    }
    assert "LlamaForCausalLM, 4.0 kB, 0.00 million parameters" in the(found, "HF_CHECKPOINT").found
    assert "none of 8 tags" in the(found, "tags").found


def test_tags_that_are_tokens(site: Site) -> None:
    site.change(HF_CHECKPOINT=save_weights(save_with_tag_tokens(site.folder / "tagged")))
    found = the(look(site), "tags")
    assert (found.status, "8 of 8 tags" in found.found) == (Status.PASS, True)


def test_the_reference_is_missed_on_gpus_only(site: Site) -> None:
    site.gpus(4)
    assert the(look(site), "REF_LOAD").status is Status.FAIL


def test_a_download_that_is_not_complete(site: Site) -> None:
    folder = site.folder / "model"
    (folder / "model.safetensors").unlink()
    assert "has no model.safetensors" in the(look(site), "HF_CHECKPOINT").found
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (folder / names["a"]).write_bytes(b"1234")
    found = look(site)
    assert f"lacks {names['b']}" in the(found, "HF_CHECKPOINT").found
    assert the(found, "tokenizer").status is Status.SKIP
    (folder / names["b"]).write_bytes(b"12")
    assert read_checkpoint(folder).weight_bytes == 6


def test_a_config_that_is_damaged(site: Site) -> None:
    (site.folder / "model/config.json").write_text('{"architectures": [')
    assert "config.json is not JSON" in the(look(site), "HF_CHECKPOINT").found


def test_a_folder_without_a_tokenizer(site: Site) -> None:
    folder = site.folder / "bare"
    folder.mkdir()
    site.change(HF_CHECKPOINT=save_weights(folder))
    found = look(site)
    assert the(found, "tokenizer").status is Status.FAIL
    assert the(found, "tags").status is the(found, "chat template").status is Status.SKIP


def test_a_tokenizer_of_another_model(site: Site) -> None:
    save_weights(site.folder / "model", vocabulary=100)
    found = the(look(site), "tokenizer")
    assert (found.status, "the model has vectors for 100" in found.found) == (Status.FAIL, True)


def template_of(folder: Path, change: tuple[str, str] | None) -> None:
    """Edits the template of a saved tokenizer, or takes it away."""
    path = folder / "chat_template.jinja"
    if change is None:
        path.unlink()
    else:
        path.write_text(path.read_text().replace(*change))


def test_a_base_model_without_a_template(site: Site) -> None:
    template_of(site.folder / "model", None)
    found = the(look(site), "chat template")
    assert (found.status, found.found) == (Status.FAIL, "the tokenizer has none")


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        (("", ""), Status.PASS, "prefix-preserving; calls are read as hermes"),
        (("message.content", "message.content.split('</think>')[-1]"), Status.PASS, "not prefix-preserving"),
        (("<|im_", "("), Status.FAIL, "holds no special token"),
        (('{"name": \' +', "call ' +"), Status.WARN, "a notation that is not known here"),
    ],
)
def test_templates_for_tool_calls(site: Site, change: tuple[str, str], status: Status, told: str) -> None:
    site.for_tools()
    template_of(site.folder / "tools-model", change)
    found = the(look(site), "chat template")
    assert (found.status, told in found.found) == (status, True), found


def test_a_notation_that_the_config_names_is_the_one_that_is_read(site: Site) -> None:
    site.for_tools()
    template_of(site.folder / "tools-model", ('{"name": \' +', "call ' +"))
    found = the(look(site), "chat template")
    assert "SLIME_SEARCH_CHAT__NOTATION" in found.fix and "tool-call-parser" not in found.fix
    site.change(SLIME_SEARCH_CHAT__NOTATION="glm")
    found = the(look(site), "chat template")
    assert (found.status, "calls are read as glm" in found.found) == (Status.PASS, True), found


def test_tool_text_of_a_tokenizer_like_qwens(site: Site) -> None:
    site.for_tools()
    assert the(look(site), "tags").status is Status.PASS
    assert save_qwen_like(site.folder / "again").is_dir()
