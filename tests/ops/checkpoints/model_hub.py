"""A server that plays the Hub for one kind of client: models are created, committed to, listed and downloaded."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from tests.support.loopback import Fault, LoopbackServer, json_response

Script = Callable[[web.Request], Fault | None]


class ModelHub(LoopbackServer):
    """``repos`` holds the files of each model's last commit; large files are sent before the commit that names them."""

    def __init__(self) -> None:
        super().__init__()
        self.repos: dict[str, dict[str, bytes]] = {}
        self.history: list[dict[str, bytes]] = []
        """The files after each commit."""
        self.objects: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.script: Script = lambda request: None
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        at = "/api/models/{owner}/{name}"
        return [
            web.post("/api/repos/create", self._scripted(self._create)),
            web.get(at, self._scripted(self._info)),
            web.get(f"{at}/revision/{{revision}}", self._scripted(self._info)),
            web.get(f"{at}/tree/{{revision}}", self._scripted(self._tree)),
            web.post(f"{at}/preupload/{{revision}}", self._scripted(self._preupload)),
            web.post(f"{at}/commit/{{revision}}", self._scripted(self._commit)),
            web.post("/{owner}/{name}.git/info/lfs/objects/batch", self._scripted(self._batch)),
            web.put("/lfs/{oid}", self._scripted(self._upload)),
            web.get("/{owner}/{name}/resolve/{revision}/{file:.+}", self._scripted(self._resolve)),
        ]

    def _scripted(self, handler: Any) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.requests.append((request.method, request.path))
            if not request.path.startswith("/lfs/"):  # such addresses are signed
                self.tokens.add(request.headers.get("Authorization"))
            if fault := self.script(request):
                return await fault(request, None)
            response: web.StreamResponse = await handler(request)
            return response

        return answer

    def _files(self, request: web.Request) -> dict[str, bytes]:
        repo = f"{request.match_info['owner']}/{request.match_info['name']}"
        if repo not in self.repos:
            code = 404 if request.headers.get("Authorization") else 401
            raise _no_repo(code)
        return self.repos[repo]

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        repo = f"{body.get('organization') or 'owner'}/{body['name']}"
        assert body.get("visibility") == "private" or body.get("private") is True
        if repo in self.repos:
            there = {"error": "You already created this model repo", "url": f"{self.url}/{repo}"}
            return web.json_response(there, status=409)
        self.repos[repo] = {}
        return json_response({"url": f"{self.url}/{repo}"})

    async def _info(self, request: web.Request) -> web.Response:
        files = self._files(request)
        return json_response({"id": "owner/run", "sha": _sha(files), "siblings": [{"rfilename": f} for f in files]})

    async def _tree(self, request: web.Request) -> web.Response:
        files = self._files(request)
        rows = [{"type": "file", "path": f, "size": len(d), "oid": "0" * 40} for f, d in files.items()]
        return json_response(rows)

    async def _preupload(self, request: web.Request) -> web.Response:
        files = (await request.json())["files"]
        modes = [{"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False} for f in files]
        return json_response({"files": modes})

    async def _batch(self, request: web.Request) -> web.Response:
        objects = []
        for wanted in (await request.json())["objects"]:
            have = wanted["oid"] in self.objects
            href = f"{self.url}/lfs/{wanted['oid']}"
            objects.append({**wanted, **({} if have else {"actions": {"upload": {"href": href}}})})
        return json_response({"transfer": "basic", "objects": objects})

    async def _upload(self, request: web.Request) -> web.Response:
        data, oid = await request.read(), request.match_info["oid"]
        if hashlib.sha256(data).hexdigest() != oid:
            return web.Response(status=400, text="content does not match")
        self.objects[oid] = data
        self.uploads.append(oid)
        return web.Response()

    async def _commit(self, request: web.Request) -> web.Response:
        files = dict(self._files(request))
        for line in (await request.read()).splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        repo = f"{request.match_info['owner']}/{request.match_info['name']}"
        self.repos[repo] = files
        self.history.append(files)
        url = f"{self.url}/{repo}/commit/{_sha(files)}"
        return json_response({"success": True, "commitOid": _sha(files), "commitUrl": url})

    async def _resolve(self, request: web.Request) -> web.Response:
        files = self._files(request)
        name = request.match_info["file"]
        assert request.match_info["revision"] == _sha(files)
        if name not in files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha256(files[name]).hexdigest()
        headers = {"X-Repo-Commit": _sha(files), "ETag": f'"{etag}"'}
        return web.Response(body=files[name], headers=headers)


def _no_repo(code: int) -> web.HTTPException:
    kind = web.HTTPNotFound if code == 404 else web.HTTPUnauthorized
    return kind(headers={"X-Error-Code": "RepoNotFound"}, text="Repository not found")


def _mode(path: str) -> str:
    return "lfs" if path.endswith((".distcp", ".safetensors", ".pt")) else "regular"


def _sha(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
