"""Small encoders with random weights, saved as the Hub's are."""

import string
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, DPRConfig, DPRContextEncoder, DPRQuestionEncoder

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def save_bert(folder: Path, *, seed: int = 0) -> Path:
    """A BERT with a WordPiece tokenizer over letters, as e5, BGE and Contriever are published."""
    torch.manual_seed(seed)
    BertModel(BertConfig(vocab_size=_save_tokenizer(folder), **SIZES)).save_pretrained(folder)
    return folder


def save_dpr(folder: Path, *, of_passages: bool) -> Path:
    """One half of a DPR, as facebook/dpr-*-single-nq-base are published."""
    torch.manual_seed(0)
    kind = DPRContextEncoder if of_passages else DPRQuestionEncoder
    kind(DPRConfig(vocab_size=_save_tokenizer(folder), **SIZES)).save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    letters = string.ascii_lowercase + string.digits + ":?!.,"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "query", "passage", *letters, *(f"##{c}" for c in letters)]
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join(words))
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, model_max_length=64).save_pretrained(folder)
    return len(words)
