"""Where the vectors of a store come from: a corpus and an encoder, or an index that holds them already."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.encoders.encoder import Encoder, QueryEncoder, Vectors
from slime_search.retrieval.errors import VectorIndexError
from slime_search.retrieval.indexing.vector_file import CHUNK_ROWS
from slime_search.retrieval.vectors.effort import MADE_FROM, near
from slime_search.retrieval.vectors.faiss_index import refuse_other_metrics
from slime_search.retrieval.vectors.flat_file import map_flat, read_flat_header
from slime_search.retrieval.vectors.stored import Stored

_SPOTS = 64
_SPOT_BYTES = 4_096
_QUERY_CHARS = 200
_OF_SENTENCES = 0.83
"""A passage's first sentence is nearer to it than a question: 0.75 against 0.60 and 0.52 on the text of ``near``."""


def stamp_of(path: Path) -> str:
    """The file's size, and a digest of 64 spots from its beginning to its end. Raises OSError."""
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        for spot in range(_SPOTS):
            file.seek(max(0, size - _SPOT_BYTES) * spot // (_SPOTS - 1))
            digest.update(file.read(_SPOT_BYTES))
    return f"{size:,} bytes, {digest.hexdigest()}"


class Questions(NamedTuple):
    """Queries of a self-test."""

    vectors: Vectors
    made_from: str


def asked_of(encoder: QueryEncoder, texts: Sequence[str], how_many: int, name: str) -> Questions:
    """Queries that somebody asks, ``how_many`` of all over ``texts`` at most; ``name`` says where they are from."""
    step = max(1, len(texts) // how_many)
    return Questions(encoder.encode_queries(texts[: step * how_many : step]), name)


class Input(Protocol):
    @property
    def count(self) -> int: ...

    @property
    def dimension(self) -> int: ...

    def chunks(self, first: int) -> Iterator[Vectors]:
        """The vectors from ``first`` on, CHUNK_ROWS at a time."""
        ...

    def questions(self, stored: Stored, how_many: int) -> Questions: ...


class EncodedCorpus:
    """Encodes every passage."""

    def __init__(self, corpus: Corpus, encoder: Encoder) -> None:
        self._corpus = corpus
        self._encoder = encoder
        self.count = len(corpus)
        self.dimension = encoder.dimension

    def chunks(self, first: int) -> Iterator[Vectors]:
        texts = islice(self._corpus.texts(), first, None)
        while chunk := list(islice(texts, CHUNK_ROWS)):
            yield self._encoder.encode_passages(chunk)

    def questions(self, stored: Stored, how_many: int) -> Questions:
        step = max(1, self.count // how_many)
        texts = islice(self._corpus.texts(), 0, step * how_many, step)
        queries = [_first_sentence(text) for text in texts]
        vectors = near(self._encoder.encode_queries(queries), _OF_SENTENCES)
        return Questions(vectors, f"the first sentences of passages with noise, cosine {_OF_SENTENCES} to them")


class FlatIndexFile:
    """The vectors of FAISS's flat index."""

    def __init__(self, path: Path) -> None:
        """Raises VectorIndexError where it is something else, or does not search by inner product."""
        try:
            header = read_flat_header(path)
        except OSError as error:
            raise VectorIndexError(f"{path}: {error.strerror}; name a flat FAISS index with --from-index") from None
        if header is None or not header.count:
            raise VectorIndexError(f"{path}: is no flat FAISS index with vectors; only those can be converted")
        refuse_other_metrics(path, header.metric)
        self._vectors = map_flat(path, header)
        self.count = header.count
        self.dimension = header.dimension

    def chunks(self, first: int) -> Iterator[Vectors]:
        for start in range(first, self.count, CHUNK_ROWS):
            yield np.array(self._vectors[start : start + CHUNK_ROWS])

    def questions(self, stored: Stored, how_many: int) -> Questions:
        step = max(1, self.count // how_many)
        return Questions(near(np.asarray(stored[: step * how_many : step], np.float32)), MADE_FROM)


def _first_sentence(text: str) -> str:
    """Of the passage proper: what stands before its first line break is the title, where there is one."""
    body = text.partition("\n")[2].strip() or text
    return body[:_QUERY_CHARS].partition(". ")[0]
