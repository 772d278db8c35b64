#!/usr/bin/env bash
# SGLang's chat route takes `input_ids`, which replace the rendered messages, and `return_token_ids`. SGLang's own router
# parses a chat body into the fields that it knows and sends on only those, so both vanish on the way: the engine renders
# the messages instead, and the answer has no ids. The router's other routes treat the same unknown field otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'sglang-router==0.3.2' 'aiohttp==3.14.5'
"$folder/venv/bin/python" - "$folder/router.log" <<'PYTHON'
import asyncio
import json
import logging
import socket
import subprocess
import sys

from aiohttp import ClientError, ClientSession, web

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 8}
REQUESTS = {
    "/v1/chat/completions": CHAT | {"input_ids": [1, 2, 3], "return_token_ids": True},
    "/generate": {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 8}, "return_routed_experts": True},
    "/v1/completions": {"model": "tiny", "prompt": "Who?", "max_tokens": 8, "return_token_ids": True},
}
received = {}


async def engine(request):
    """A stand-in for an engine: keeps the bodies that reach it."""
    if request.method == "POST":
        received[request.path] = await request.json()
    return web.json_response({"model_path": "tiny", "choices": []})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def ask_through_the_router():
    logging.disable()  # the router first tries whether the engine speaks HTTP/2
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engine)
    runner = web.AppRunner(app)
    await runner.setup()
    ports = {name: free_port() for name in ("engine", "router", "metrics")}
    await web.TCPSite(runner, "127.0.0.1", ports["engine"]).start()
    command = [sys.executable, "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(ports["router"])]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(ports["metrics"])]
    command += ["--worker-urls", f"http://127.0.0.1:{ports['engine']}"]
    with open(sys.argv[1], "w") as log:
        router = subprocess.Popen(command, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{ports['router']}"
    try:
        async with ClientSession() as session:
            for _ in range(600):
                try:
                    async with session.get(base + "/readiness") as answer:
                        if answer.ok:
                            break
                except ClientError:
                    pass
                await asyncio.sleep(0.1)
            for path, body in REQUESTS.items():
                async with session.post(base + path, json=body) as answer:
                    answer.raise_for_status()
    finally:
        router.terminate()
        router.wait()
        await runner.cleanup()


asyncio.run(ask_through_the_router())
print("title:    SGLang's router takes input_ids and return_token_ids out of chat requests, without a word")
print("versions: sglang-router 0.3.2")
print("expected: what the router does not know reaches the engine, or the request is refused")
lost = {}
for path, body in REQUESTS.items():
    lost[path] = sorted(body.keys() - received[path].keys())
    print(f"seen:     {path}: sent {sorted(body)}")
    print(f"          the engine never sees {lost[path]}; it reads {json.dumps(received[path])}")
chat = ["input_ids", "max_tokens", "return_token_ids"]
if lost != {"/v1/chat/completions": chat, "/generate": ["return_routed_experts"], "/v1/completions": []}:
    raise SystemExit("CHANGED: other fields are lost now")
if received["/v1/chat/completions"].get("max_completion_tokens") != 8 or received["/generate"]["input_ids"] != [1, 2, 3]:
    raise SystemExit("CHANGED: max_tokens is no longer renamed, or /generate no longer carries ids")
PYTHON
