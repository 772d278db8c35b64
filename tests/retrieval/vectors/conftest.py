import json
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pytest

COUNT, DIMENSION = 20_000, 64


@pytest.fixture(scope="session")
def clustered() -> npt.NDArray[np.float32]:
    """Unit vectors around 200 centres."""
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((200, DIMENSION))[rng.integers(0, 200, COUNT)]
    vectors += rng.standard_normal((COUNT, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def flat_file(clustered: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(clustered)
    path = tmp_path_factory.mktemp("flat") / "e5_Flat.index"
    faiss.write_index(flat, str(path))
    return path


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9,000 passages, so that there are three chunks."""
    rng = np.random.default_rng(6)
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    with path.open("w") as file:
        for number in range(9_000):
            words = " ".join(f"w{word}" for word in rng.integers(0, 3_000, 8))
            file.write(json.dumps({"id": str(number), "contents": f'"T{number}"\n{words}. w1 w2'}) + "\n")
    return path
