"""``slime-search prepare-data`` from a server that plays the Hub."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
from aiohttp import web

from tests.support.loopback import LoopbackServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(LoopbackServer):
    """Every file of FlashRAG's, with one question in it, unless it is in ``missing``."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: set[str] = set()
        self.sent: list[str] = []

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/datasets/RUC-NLPIR/FlashRAG_datasets/resolve/main/{file:.+}", self._file)]

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        if name in self.missing:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        body = json.dumps({"id": "0", "question": f"{name}?", "golden_answers": ["A"]}).encode()
        etag = f'"{hashlib.sha1(body).hexdigest()}"'
        if request.method == "GET":
            self.sent.append(name)
        return web.Response(body=body, headers={"ETag": etag, "X-Repo-Commit": COMMIT})


def prepare(hub: Hub, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "COLUMNS": "300"}
    argv = [sys.executable, "-m", "slime_search.cli", "prepare-data", "--output", str(folder / "out"), *options]
    return subprocess.run(argv, capture_output=True, text=True, env=environment)


def test_files_come_from_the_hub_once(tmp_path: Path) -> None:
    with Hub() as hub:
        done = prepare(hub, tmp_path)
        assert done.returncode == 0, done.stderr
        asked = ["nq/train", "hotpotqa/train", "nq/test", "triviaqa/test", "popqa/test", "hotpotqa/dev"]
        asked += ["2wikimultihopqa/dev", "musique/dev", "bamboogle/test"]
        assert hub.sent == [f"{name}.jsonl" for name in asked]
        assert prepare(hub, tmp_path).returncode == 0
        assert len(hub.sent) == len(asked)
    assert len(pq.read_table(tmp_path / "out" / "train.parquet")) == 2


def test_what_the_hub_does_not_have_is_one_line(tmp_path: Path) -> None:
    with Hub() as hub:
        hub.missing.add("nq/train.jsonl")
        failed = prepare(hub, tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: RUC-NLPIR/FlashRAG_datasets/nq/train.jsonl: 404")
    assert "export HF_ENDPOINT" in failed.stderr and "Traceback" not in failed.stderr
