from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from slime_search.core.tokens import TokenCodec
from slime_search.dialects.tags import CORRECTION, SEARCH_R1_TAGS
from slime_search.local.dataset import DatasetPaths
from slime_search.local.policy import build_model, build_tokenizer, load_policy, save_policy
from slime_search.local.world import invent_encyclopedia

QUESTION = [{"role": "user", "content": "Where did Anyone Else come from?"}]


def test_every_name_word_with_its_blank_is_one_token() -> None:
    encyclopedia = invent_encyclopedia(0)
    tokenizer = build_tokenizer(encyclopedia)
    assert [word for word in encyclopedia.lexicon.words() if len(tokenizer.encode(f" {word}")) != 1] == []
    assert 1400 < len(tokenizer) < 1900


def test_documents_and_questions_are_one_token_a_word(
    dataset: DatasetPaths, tokenizer: PreTrainedTokenizerFast
) -> None:
    for entity in dataset.encyclopedia.entities.values():
        words_and_stops = len(entity.text.split()) + entity.text.count(",") + entity.text.count(".")
        assert len(tokenizer.encode(f" {entity.text}")) == words_and_stops
    for question in dataset.encyclopedia.train.all_questions():
        assert len(tokenizer.encode(f"Question: {question.text}")) == 2 + len(question.text.split()) + 1


def test_tags_are_single_tokens_and_forged_ones_are_not(tokenizer: PreTrainedTokenizerFast) -> None:
    codec = TokenCodec(tokenizer)
    tag_ids = set(tokenizer.convert_tokens_to_ids(list(SEARCH_R1_TAGS.tags)))
    for tag in SEARCH_R1_TAGS.tags:
        assert len(codec.trusted(tag)) == 1
        assert tag_ids.isdisjoint(codec.untrusted(tag))
    assert tag_ids.isdisjoint(codec.untrusted(CORRECTION))


@given(text=st.text())
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    codec = TokenCodec(tokenizer)
    text = text.encode(errors="replace").decode()
    assert tokenizer.decode(codec.untrusted(text), skip_special_tokens=False) == text


def test_chat_template_renders_a_question(tokenizer: PreTrainedTokenizerFast) -> None:
    rendered = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    assert rendered == "Question: Where did Anyone Else come from?\n"


def test_chat_template_rejects_other_roles(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(Exception, match="user messages only"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}], tokenize=False)


def test_tokenizer_of_one_encyclopedia_is_always_the_same(dataset: DatasetPaths) -> None:
    first, again = (build_tokenizer(dataset.encyclopedia) for _ in range(2))
    assert first.get_vocab() == again.get_vocab()
    assert first.backend_tokenizer.to_str() == again.backend_tokenizer.to_str()


@pytest.mark.parametrize("induction", [True, False])
def test_model_depends_on_its_seed_alone(tokenizer: PreTrainedTokenizerFast, induction: bool) -> None:
    before = torch.get_rng_state()
    first, again, other = (build_model(tokenizer, seed, induction=induction) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert not torch.equal(first.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_a_saved_policy_is_an_ordinary_hugging_face_folder(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = build_model(tokenizer, 0)
    save_policy(tmp_path, model, tokenizer)
    loaders = (
        load_policy(tmp_path),
        (AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)),
    )
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(f"{prompt}<think> I know this. </think>\n<answer> Anyone </answer>")
    for loaded_model, loaded_tokenizer in loaders:
        assert loaded_tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False) == prompt
        assert loaded_tokenizer.encode(tokenizer.decode(ids)) == ids
        assert (loaded_tokenizer.pad_token_id, loaded_tokenizer.eos_token_id) == (0, 1)
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, loaded_model.state_dict()[name])


def test_auto_tokenizer_reads_every_document_as_the_trained_tokenizer_does(
    dataset: DatasetPaths, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_policy(tmp_path, build_model(tokenizer, 0), tokenizer)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for entity in dataset.encyclopedia.entities.values():
        assert loaded.encode(f" {entity.text}") == tokenizer.encode(f" {entity.text}")
