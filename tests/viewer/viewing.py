"""Files to look at, invented: lines of rollouts, and dumps as slime saves them."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn
from rich.progress import Progress

from slime_search.hooks.samples import RECORD_KEY
from slime_search.records.rollout import Rollout, read_rollout
from slime_search.viewer.app import create_app
from slime_search.viewer.library import Library
from slime_search.viewer.opening import open_library


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


def coda(number: int, **changes: Any) -> Rollout:
    """A planner and its two executors."""
    one = rollout(number)
    executors = tuple(one.runs[0].model_copy(update={"role": "executor"}) for _ in range(2))
    planner = one.runs[0].model_copy(update={"role": "planner", "advantage": 0.5})
    return one.model_copy(update={"recipe": "coda", "runs": (*executors, planner), **changes})


def hostile_rollout(number: int, text: str) -> Rollout:
    """``text`` wherever a rollout may have text."""
    row = rollout(number).model_dump()
    for run in row["runs"]:
        run |= {"role": text, "answer": text, "disagreements": [{"text": text, "student": -1.0, "teacher": -2.0}]}
        for call in run["calls"]:
            call |= {"tool": text, "query": text, "details": {text: text}}
            call["passages"] = [{"title": text, "text": f"{text} and plain"}]
        for segment in run["segments"]:
            segment |= {"tokens": [text] * 2, "token_ids": None, "log_probs": None}
    told = dict.fromkeys(("recipe", "source", "stage", "question", "answer", "error"), text)
    return read_rollout({**row, **told, "ending": "failed", "gold_answers": [text, "plain"], "score": {"em": 0.0}})


def run_lines(folder: Path) -> Path:
    """Seventy questions, every second one right before training and all but the last after it, and metrics."""
    before = [(rollout if i % 2 else wrong)(i, id=f"before/{i}", stage="before") for i in range(70)]
    after = [rollout(i, id=f"after/{i}", stage="after") for i in range(69)]
    after += [failed(69, id="after/69", stage="after"), coda(70, id="after/70", stage="after", source="hotpotqa")]
    rows = [{"phase": "eval", "step": step, "em": em, "n": 70} for step, em in ((0, 0.5), (5, 0.9))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write(folder / "rollouts.jsonl", [*before, *after])


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
