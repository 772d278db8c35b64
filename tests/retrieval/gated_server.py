"""A server over ten rows whose searches are counted and can be held: ``gated_server.py FOLDER OPTIONS``.

Every search appends its queries to ``FOLDER/searches`` as a JSON line, and ends once ``FOLDER/gate`` is there.
OPTIONS are those of ServingOptions, as JSON.
"""

import json
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from slime_search.retrieval.collection import Collection
from slime_search.retrieval.corpus import Corpus
from slime_search.retrieval.loading import ServingOptions
from slime_search.retrieval.retriever import Hit
from slime_search.retrieval.server import serve

ROWS = 10


def hits_of(query: str, topk: int) -> list[Hit]:
    """What the gated server finds: distinct rows and scores that depend on the query."""
    first = zlib.crc32(query.encode())
    return [Hit((first + rank) % ROWS, first / 2**32 - rank) for rank in range(min(topk, ROWS))]


class GatedRetriever:
    def __init__(self, folder: Path) -> None:
        self._searches = folder / "searches"
        self._gate = folder / "gate"

    def search(self, queries: Sequence[str], topk: int) -> list[list[Hit]]:
        with self._searches.open("a") as file:
            file.write(json.dumps(queries) + "\n")
        while not self._gate.exists():
            time.sleep(0.01)
        if "fail" in queries:
            raise RuntimeError("asked to fail")
        return [hits_of(query, topk) for query in queries]


def load(folder: Path, _progress: Progress) -> Collection:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": number, "contents": f"row {number}"}) + "\n" for number in range(ROWS)))
    return Collection(Corpus.read(path), GatedRetriever(folder))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    serve(
        lambda progress: load(folder, progress),
        port=0,
        options=ServingOptions(**json.loads(sys.argv[2])),
        exit_with_parent=True,
    )
