"""What ``benchmarks.retrieval`` searches: an encoder, a corpus, a flat index, and questions nobody asks twice."""

import json
import random
import string
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from rich.progress import Progress
from transformers import BertConfig, BertModel, BertTokenizerFast

from slime_search.retrieval.encoders.loading import load_encoder

ENCODED = 20_000
"""Passages that the encoder reads; the others are near one of them."""
NEARNESS = 0.5
"""Length of the random part of the vectors that are not encoded, against the spread of those that are."""
_WORDS = 20_000
_PASSAGE_WORDS = 24
_SHAPES = {
    # intfloat/e5-base-v2 and most encoders that people search Wikipedia with.
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    # all-MiniLM-L6, e5-small has 12 of these layers.
    "small": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
}


@dataclass(frozen=True, slots=True)
class Fixture:
    encoder: Path
    corpus: Path
    index: Path
    texts: list[str]
    words: list[str]

    def questions(self, count: int, seed: int) -> list[str]:
        """Different questions of 10 to 18 words, about 19 tokens with their prefix; most words are of one passage."""
        draw = random.Random(seed)
        questions = []
        for _ in range(count):
            known = draw.sample(draw.choice(self.texts[:ENCODED]).split(), k=9)
            mixed = known + draw.choices(self.words, k=draw.randint(1, 9))
            questions.append(f"what {' '.join(draw.sample(mixed, k=len(mixed)))}?")
        return questions


def build_fixture(folder: Path, *, shape: str, passages: int, progress: Progress) -> Fixture:
    """Builds what ``folder`` does not hold yet; a run that was interrupted starts over."""
    draw = random.Random(0)
    words = some_words(draw)
    texts = [" ".join(draw.choices(words, k=_PASSAGE_WORDS + draw.randint(-8, 8))) for _ in range(passages)]
    built = Fixture(folder / "encoder", folder / "corpus.jsonl", folder / "flat.index", texts, words)
    done = folder / "done"
    if done.exists():
        return built
    save_encoder(built.encoder, shape, words)
    with built.corpus.open("w") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"id": str(number), "contents": f'"{text[:20]}"\n{text}'}) + "\n")
    _save_index(built, progress)
    done.touch()
    return built


def some_words(draw: random.Random | None = None) -> list[str]:
    """Random words, in alphabetical order; the same ones each time where no ``draw`` is given."""
    draw = draw or random.Random(0)
    return sorted({"".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 9))) for _ in range(_WORDS)})


def save_encoder(folder: Path, shape: str, words: list[str]) -> None:
    """Random weights in the published shape, so that the time is the real model's.

    Small position embeddings spread the vectors as training does: the best scores are .75 to .9, as e5-base's are,
    where those of a model fresh from its constructor are all .97.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *string.ascii_lowercase, ":", "?", "##:", "query", "passage", "what", *words]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    BertTokenizerFast(vocab=vocabulary, model_max_length=512).save_pretrained(folder)
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=30_522, **_SHAPES[shape]))
    with torch.no_grad():
        model.embeddings.position_embeddings.weight *= 0.1
        model.embeddings.token_type_embeddings.weight *= 0.1
    model.save_pretrained(folder)


def _save_index(fixture: Fixture, progress: Progress) -> None:
    texts = fixture.texts
    encoder = load_encoder(str(fixture.encoder), family="e5")
    blocks = [texts[start : start + 256] for start in range(0, min(ENCODED, len(texts)), 256)]
    encoded = np.concatenate(
        [encoder.encode_passages(block) for block in progress.track(blocks, description="encoding passages")]
    )
    index = faiss.IndexFlatIP(encoder.dimension)
    index.add(encoded)
    random_state = np.random.default_rng(0)
    spread = np.linalg.norm(encoded.std(axis=0)) * NEARNESS
    while index.ntotal < len(texts):
        near = encoded[: len(texts) - index.ntotal]
        noise = random_state.standard_normal(near.shape, np.float32)
        noise *= spread / np.sqrt(near.shape[1])
        near = near + noise
        index.add(near / np.linalg.norm(near, axis=1, keepdims=True))
    faiss.write_index(index, str(fixture.index))
