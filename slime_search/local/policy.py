"""The tiny policy: a tokenizer made for one encyclopedia, and a Llama model of 0.9 million parameters."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from slime_search.errors import SlimeSearchError
from slime_search.local.demonstrations import PHRASES
from slime_search.local.induction import seed_induction
from slime_search.local.policy_format import EOS, PAD, TAGS, PolicyFormat
from slime_search.local.world import Encyclopedia

MAX_CONTEXT = 1024
"""Tokens a context may hold; a question with three searches takes about 500."""
OUT_OF_REACH = 8192
"""A vocabulary so large that training ends when no word is left to merge."""
PROBE = "\n\n<information>Doc 1(Title: Anna Bell) born in 1859. It's her 2nd  home.</information>\n\n"
"""Text on which tokenizers differ: digits, blanks, line ends, an apostrophe, tags."""


def build_tokenizer(
    encyclopedia: Encyclopedia, policy_format: PolicyFormat = TAGS, *, vocabulary: int | None = None
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in which every word of the encyclopedia, with the blank before it, is one token.

    It has about 1,600 tokens and encodes any other text too, down to single bytes. The markup of ``policy_format`` are
    added tokens. With a smaller ``vocabulary``, in tokens, rarer words fall into pieces.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary or OUT_OF_REACH,
        special_tokens=[PAD, EOS, *policy_format.markup],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = (f" {word}" for word in encyclopedia.lexicon.words())
    documents = (f" {entity.text}" for entity in encyclopedia.entities.values())
    tokenizer.train_from_iterator([*words, *documents, *PHRASES, *policy_format.phrases], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        model_max_length=MAX_CONTEXT,
        chat_template=policy_format.chat_template,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int, *, induction: bool = True) -> LlamaForCausalLM:
    """A fresh model for `tokenizer`, with random weights or, by default, with seeded induction heads."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        attention_bias=True,  # the seeded heads tell positions apart by their query and key biases
        max_position_embeddings=MAX_CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        if induction:
            seed_induction(model)
    return model


def save_policy(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes a Hugging Face model folder.

    Raises:
        SlimeSearchError: transformers reads another tokenizer from the folder than was written. For some model types
            it puts a tokenizer of its own in place of the saved one, and says nothing.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    read = AutoTokenizer.from_pretrained(folder)
    if read.encode(PROBE) != tokenizer.encode(PROBE):
        raise SlimeSearchError(
            f"{folder}: AutoTokenizer reads a {type(read).__name__} that splits {PROBE!r} differently"
        )


def load_policy(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Reads what `save_policy` wrote, the weights as float32."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
