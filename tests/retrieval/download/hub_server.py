"""A server that plays the Hub: lists a data set's files with their checksums and serves ranges of them."""

import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterable

from aiohttp import web

from tests.support.loopback import Fault, LoopbackServer, json_response

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Script = Callable[[web.Request], Fault | None]


class Hub(LoopbackServer):
    """``repos`` holds the files of every data set, ``sha256`` what is said of one instead of the truth.

    Files come from ``cdn`` by a redirect, as the real Hub has it, where that is set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repos: dict[str, dict[str, bytes]] = {}
        self.sha256: dict[str, str] = {}
        self.script: Script = lambda request: None
        self.cdn = ""
        self.requests: list[tuple[str, str | None, str | None]] = []
        """Path, Range and Authorization of each."""

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/api/datasets/{owner}/{name}", self._info),
            web.get("/datasets/{owner}/{name}/resolve/{revision}/{file:.+}", self._resolve),
            web.get("/cdn/{owner}/{name}/{file:.+}", self._file),
        ]

    @property
    def ranges(self) -> list[str]:
        return [asked for path, asked, _ in self.requests if asked and "/resolve/" in path]

    def _repo(self, request: web.Request) -> str:
        self.requests.append((request.path, request.headers.get("Range"), request.headers.get("Authorization")))
        return f"{request.match_info['owner']}/{request.match_info['name']}"

    async def _info(self, request: web.Request) -> web.StreamResponse:
        repo = self._repo(request)
        if fault := self.script(request):
            return await fault(request, None)
        if repo not in self.repos:
            return web.Response(status=404, headers={"X-Error-Code": "RepoNotFound"}, text="Repository not found")
        siblings = [
            {
                "rfilename": name,
                "size": len(data),
                "blobId": "0" * 40,
                "lfs": {
                    "sha256": self.sha256.get(name, hashlib.sha256(data).hexdigest()),
                    "size": len(data),
                    "pointerSize": 100,
                },
            }
            for name, data in self.repos[repo].items()
        ]
        siblings.append({"rfilename": "README.md", "size": 3, "blobId": "0" * 40})
        return json_response({"id": repo, "sha": COMMIT, "siblings": siblings})

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        repo = self._repo(request)
        assert request.match_info["revision"] == COMMIT
        if fault := self.script(request):
            return await fault(request, self._slice(request, repo))
        if self.cdn:
            raise web.HTTPFound(f"{self.cdn}/cdn/{repo}/{request.match_info['file']}")
        return self._answer(request, repo)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._answer(request, self._repo(request))

    def _answer(self, request: web.Request, repo: str) -> web.Response:
        return web.Response(status=206, body=self._slice(request, repo))

    def _slice(self, request: web.Request, repo: str) -> bytes:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"])
        assert asked
        return self.repos[repo][request.match_info["file"]][int(asked[1]) : int(asked[2]) + 1]


def packed_corpus(lines: bytes, *, tar: bool = True) -> bytes:
    """The archive of a corpus: as it is published, or as its name says."""
    if not tar:
        return gzip.compress(lines)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("data00/indexes/wiki_dump.jsonl")
        member.size = len(lines)
        archive.addfile(member, io.BytesIO(lines))
    return packed.getvalue()
