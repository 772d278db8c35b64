import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import pytest

from slime_search.retrieval.encoders.loading import load_encoder
from tests.retrieval.retrieval_process import Server
from tests.support.encoders import save_bert

PROGRAM = Path(__file__).parent / "cluster_server.py"


@pytest.fixture(scope="package")
def texts() -> list[str]:
    """45 passages, the first nine of them twice, so that there are ties within a part and across parts."""
    texts = [
        f"{color} {animal} {number}"
        for number in range(4)
        for color in ("red", "blue", "grey")
        for animal in ("fox", "hen", "dog")
    ]
    return texts + texts[:9]


@pytest.fixture(scope="package")
def corpus_path(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": str(row), "contents": text}) + "\n" for row, text in enumerate(texts)))
    return path


@pytest.fixture(scope="package")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="package")
def index_path(encoder_folder: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    vectors = load_encoder(str(encoder_folder), family="e5", precision="fp32").encode_passages(texts)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    path = tmp_path_factory.mktemp("index") / "flat.index"
    faiss.write_index(index, str(path))
    return path


@pytest.fixture(scope="package")
def start_cluster_server() -> Iterator[Callable[..., Server]]:
    """Starts servers, with the fields of their settings, of their scale, and their environment."""
    with contextlib.ExitStack() as stack:

        def start(settings: dict[str, object], scale: dict[str, object], env: dict[str, str] | None = None) -> Server:
            server = Server(PROGRAM, json.dumps(settings, default=str), json.dumps(scale), env=env)
            stack.callback(server.process.wait)
            stack.callback(server.process.kill)
            return server

        yield start
