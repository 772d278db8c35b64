"""The baseline of ``benchmarks.retrieval``: a server in the style that people train with today.

Every request encodes its queries in fp32 and searches FAISS's flat index by itself, in the web framework's thread pool,
with the threads that torch and FAISS choose. ``--tuned`` is the same server as one who knows both would run it: what
waits is one batch, with one OpenMP thread, and FAISS multiplies matrices from 20 products on, as it did until 1.13.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any

import faiss
import orjson
import torch
import typer
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModel, AutoTokenizer


class Request(BaseModel):
    queries: list[str]
    topk: int | None = None
    return_scores: bool = False


BLAS_THRESHOLD = 20
"""Products of a block from which FAISS leaves them to BLAS; 1.14.3 and later wait for 128,000."""
LARGEST_BATCH = 64

Found = tuple[Any, Any]
"""Scores and ids, both of the shape (queries, topk)."""


class Batching:
    """Searches for all requests that wait, in one thread."""

    def __init__(self, search: Callable[[list[str], int], Found]) -> None:
        self._search = search
        self._waiting: queue.SimpleQueue[tuple[list[str], int, Future[Found]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def search(self, queries: list[str], topk: int) -> Found:
        done: Future[Found] = Future()
        self._waiting.put((queries, topk, done))
        return done.result()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < LARGEST_BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            texts = [query for queries, _, _ in batch for query in queries]
            scores, ids = self._search(texts, max(topk for _, topk, _ in batch))
            start = 0
            for queries, topk, done in batch:
                rows = slice(start, start + len(queries))
                done.set_result((scores[rows, :topk], ids[rows, :topk]))
                start += len(queries)


def create_app(encoder: Path, corpus: Path, index: Path, *, tuned: bool = False) -> FastAPI:
    app = FastAPI()
    if tuned:
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModel.from_pretrained(encoder).eval()
    flat = faiss.read_index(str(index))
    rows = [orjson.loads(line) for line in corpus.read_bytes().splitlines()]

    @torch.no_grad()
    def encode(queries: list[str]) -> Any:
        texts = [f"query: {query}" for query in queries]
        inputs = tokenizer(texts, max_length=256, padding=True, truncation=True, return_tensors="pt")
        hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        means = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(means, dim=-1).numpy()

    def search_all(queries: list[str], topk: int) -> Found:
        found: Found = flat.search(encode(queries), topk)
        return found

    search = Batching(search_all).search if tuned else search_all

    @app.post("/retrieve")
    def retrieve(request: Request) -> dict[str, Any]:
        scores, ids = search(request.queries, request.topk or 3)
        found = [[rows[i] for i in row] for row in ids]
        if not request.return_scores:
            return {"result": found}
        scored = [
            [{"document": row, "score": score} for row, score in zip(rows_, scores_, strict=True)]
            for rows_, scores_ in zip(found, scores.tolist(), strict=True)
        ]
        return {"result": scored}

    @app.get("/ready")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


def main(
    encoder: Annotated[Path, typer.Option()],
    corpus: Annotated[Path, typer.Option()],
    index: Annotated[Path, typer.Option()],
    port: Annotated[int, typer.Option()],
    tuned: Annotated[bool, typer.Option()] = False,
) -> None:
    uvicorn.run(create_app(encoder, corpus, index, tuned=tuned), port=port, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
