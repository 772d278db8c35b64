"""What a store says about itself: the file ``manifest.json``, written last."""

from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from slime_search.files import write_text
from slime_search.retrieval.errors import VectorIndexError
from slime_search.validation import field_of, reason

VECTORS = "vectors.npy"
"""float16, shape (count, dimension)."""
BYTES = "bytes.npy"
"""int8, the same shape."""
SCALE = "scale.npy"
"""float32, shape (2, dimension): centre and step."""
_NAME = "manifest.json"


def shard_name(number: int, of: int) -> str:
    """FAISS's codes of one shard."""
    return f"codes-{number:05d}-of-{of:05d}.faiss"


class Kind(StrEnum):
    """How vectors are scanned before the best candidates are scored from the vectors themselves."""

    FLAT = "flat"
    SQ8 = "sq8"
    RABITQ = "rabitq"


class Source(BaseModel):
    """What a store is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    shards: int
    count: int
    corpus: str | None = None
    """Size and digest of the corpus file."""
    retriever_name: str | None = None
    retriever_model: str | None = None
    from_index: str | None = None
    """Size and digest of the index that was converted."""


class SelfTest(BaseModel):
    """How much of exact search's answers the store finds."""

    model_config = ConfigDict(frozen=True)

    queries: int
    made_from: str
    recall: dict[int, float]
    """By k: the share of the k best passages, by the stored vectors, that are among the k found."""


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    metric: Literal["inner product"] = "inner product"
    source: Source
    dimension: int
    sizes: dict[str, int]
    """Bytes of each file."""
    lost: float = 0.0
    longest: float = 0.0
    """Of byte codes: the largest rounding error and the longest vector, in steps."""
    self_test: SelfTest | None = None

    @classmethod
    def read(cls, store: Path) -> Self:
        """Raises VectorIndexError where there is none, it can't be used, or a file of the store is not as it says."""
        path = store / _NAME
        if not path.exists():
            raise VectorIndexError(
                f"{store}: has no {_NAME}, so it is no store or its build has not ended",
                "give the same `slime-search build-index` command again to complete it",
            )
        try:
            manifest = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            raise VectorIndexError(
                f"{path}: {field_of(first)}: {reason(first)}",
                "it was built by another version or damaged: build the store again",
            ) from None
        for name, size in manifest.sizes.items():
            file = store / name
            found = file.stat().st_size if file.exists() else None
            if found != size:
                state = "is missing" if found is None else f"has {found:,} bytes instead of {size:,}"
                raise VectorIndexError(f"{file}: {state}", "copy the store again, or build it again")
        return manifest

    @staticmethod
    def exists(store: Path) -> bool:
        return (store / _NAME).exists()

    def write(self, store: Path) -> None:
        write_text(store / _NAME, self.model_dump_json(indent=2) + "\n")
