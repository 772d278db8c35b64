"""Files to look at, invented: lines of rollouts, and dumps as slime saves them."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn

from slime_search.hooks.samples import RECORD_KEY
from slime_search.rollouts.record import Rollout, read_rollout
from slime_search.viewer.app import create_app
from slime_search.viewer.library import Library
from slime_search.viewer.opening import open_library
from rich.progress import Progress


def rollout(number: int = 0, **changes: Any) -> Rollout:
    """A rollout of one search; ``number`` goes into its texts."""
    segments = [
        {"owner": "prompt", "trained": False, "tokens": ["Who", " made", f" thing-{number}", "?"]},
        {
            "owner": "model",
            "trained": True,
            "tokens": ["<search>", f"thing-{number}", "</search>"],
            "log_probs": [-0.01, -2.5, -0.2],
        },
        {
            "owner": "world",
            "trained": False,
            "tokens": ["<information>", " made by", f" name-{number}", "</information>"],
        },
        {
            "owner": "model",
            "trained": True,
            "tokens": ["<answer>", f"name-{number}", "</answer>"],
            "log_probs": [-0.1, -0.4, -0.0],
        },
    ]
    passages = [{"title": f"About thing-{number}", "text": f"It was made by name-{number} ."}]
    call = {"turn": 0, "tool": "search", "query": f"thing-{number}", "passages": passages, "latency_s": 0.012}
    run = {"ending": "answered", "answer": f"name-{number}", "segments": segments, "calls": [call]}
    row = {
        "id": str(number),
        "group": str(number),
        "recipe": "search-r1",
        "source": "nq",
        "question": f"Who made thing-{number}?",
        "gold_answers": [f"name-{number}"],
        "answer": f"name-{number}",
        "ending": "answered",
        "reward": 1.0,
        "score": {"em": 1.0},
        "runs": [run],
    }
    return read_rollout({**row, **changes})


def wrong(number: int, **changes: Any) -> Rollout:
    return rollout(number, **{"answer": "nobody", "reward": 0.0, "score": {"em": 0.0}, **changes})


def failed(number: int, **changes: Any) -> Rollout:
    run = {"ending": "failed", "answer": None, "segments": [{"owner": "prompt", "trained": False, "tokens": ["Who"]}]}
    outcome = {"answer": None, "ending": "failed", "error": "retriever at http://x: down", "reward": 0.0, "score": {}}
    return rollout(number, **{**outcome, "runs": [run], **changes})


def write(path: Path, rollouts: Sequence[Rollout]) -> Path:
    path.write_bytes(b"".join(one.line() for one in rollouts))
    return path


def opened(*paths: Path, spool: Path, **options: Any) -> Library:
    with Progress(disable=True) as progress:
        return open_library(paths, spool=spool, progress=progress, **options)


def sample(prompt: list[int], spans: Sequence[tuple[str, list[int]]], **changes: Any) -> dict[str, Any]:
    """A sample as slime dumps it, written by our hooks: ``spans`` are (owner, ids)."""
    segments = [
        {
            "owner": owner,
            "length": len(ids),
            "text": "",
            "finish": "stop" if owner == "model" else None,
            "is_correction": False,
            "results": [],
        }
        for owner, ids in spans
    ]
    response = [i for _, ids in spans for i in ids]
    mask = [int(owner == "model") for owner, ids in spans for _ in ids]
    record = {
        "segments": segments,
        "calls": [],
        "ending": "answered",
        "answer": "name",
        "error": None,
        "failed_service": None,
        "drift": {"realigned": 0, "forked": 0, "lost_tokens": 0},
        "placeholder": False,
        "score": {"em": 1.0},
    }
    fields = {
        "group_index": 0,
        "index": 0,
        "rollout_id": None,
        "prompt": "Question: Who made it?\n",
        "tokens": [*prompt, *response],
        "response": "",
        "response_length": len(response),
        "label": {"ground_truth": {"target": ["name"]}},
        "reward": 1.0,
        "loss_mask": mask,
        "rollout_log_probs": [-0.5 * one for one in mask],
        "status": "completed",
        "remove_sample": False,
        "metadata": {RECORD_KEY: record},
        "rollout_routed_experts": torch.zeros(4, 2, dtype=torch.int32),
        "spec_info": {},
    }
    return {**fields, **changes}


def save_dump(path: Path, samples: Sequence[dict[str, Any]]) -> Path:
    torch.save({"rollout_id": 0, "samples": list(samples)}, path)
    return path


@contextmanager
def serving(library: Library) -> Iterator[str]:
    """A real server on a free port, as long as the block lasts."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(library), ws="none", lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
