"""The baseline of ``benchmarks.retrieval``: a server in the style that people train with today.

Every request encodes its queries in fp32 and searches FAISS's flat index by itself, in the web framework's thread pool,
with the threads that torch and FAISS choose.
"""

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


def create_app(encoder: Path, corpus: Path, index: Path) -> FastAPI:
    app = FastAPI()
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

    @app.post("/retrieve")
    def retrieve(request: Request) -> dict[str, Any]:
        scores, ids = flat.search(encode(request.queries), request.topk or 3)
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
) -> None:
    uvicorn.run(create_app(encoder, corpus, index), port=port, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
