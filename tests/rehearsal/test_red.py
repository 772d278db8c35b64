"""The policy's own demonstrations become rows that RED reads, with the tokens that the policy imitated."""

from pathlib import Path

import yaml

from slime_search.core.tokens import TokenCodec
from slime_search.hooks.demonstrations import Encoder, read_demonstrations
from slime_search.local.cold_start import encode_demonstration
from slime_search.local.dataset import write_dataset
from slime_search.local.demonstrations import read_demonstrations as read_shown
from slime_search.local.policy import build_tokenizer
from slime_search.local.presets import PRESETS
from slime_search.local.world import WorldSize, invent_encyclopedia
from slime_search.rehearsal.recipes import rehearsed


def test_tokens_and_masks_are_those_of_the_cold_start(tmp_path: Path) -> None:
    preset = PRESETS["coda"]
    size = WorldSize(people=30, towns=12, companies=12)
    encyclopedia = invent_encyclopedia(7, size, size, size)
    data = write_dataset(
        tmp_path / "data",
        7,
        encyclopedia=encyclopedia,
        preset=preset,
        demonstrations=20,
        train_questions=4,
        test_questions=4,
    )
    rehearsed("coda", None, red=True).write(tmp_path, {}, data.demonstrations)
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())["red"]
    tokenizer = build_tokenizer(encyclopedia, preset.policy_format)
    codec, encoder = TokenCodec(tokenizer), Encoder(tokenizer)
    rows = [encoder.encode(row) for row in read_demonstrations(Path(settings["sft_data"]))]
    shown = list(read_shown(data.demonstrations))
    assert len(rows) == len(shown) == 20 and {one.role for one in shown} == set(preset.roles)
    for row, one in zip(rows, shown, strict=True):
        prompt_ids = preset.roles[one.role].policy_format.prompt_encoder(codec, tokenizer)
        example = encode_demonstration(one, codec, prompt_ids)
        assert row.prompt_ids + row.response_ids == example.token_ids
        assert row.loss_mask == [int(weight == 1.0) for weight in example.weights[len(row.prompt_ids) :]]


def test_a_task_is_rendered_as_it_is_with_the_chat_template_and_without() -> None:
    preset = PRESETS["coda"]
    size = WorldSize(people=30, towns=12, companies=12)
    tokenizer = build_tokenizer(invent_encyclopedia(7, size, size, size), preset.policy_format)

    def rendered(text: str) -> str:
        messages = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    assert rendered("Task: Who is it?\n") == "Task: Who is it?\n"
    assert rendered("Who is it?") == "Question: Who is it?\n"
