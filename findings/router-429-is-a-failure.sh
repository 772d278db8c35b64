#!/usr/bin/env bash
# An engine that is full says 429 with Retry-After. SGLang's router asks it again four times within a second whatever
# Retry-After says, and counts each of the five refusals as a failure of the engine. Ten of them, which is two requests,
# open its circuit breaker: the router then answers 503 for every request and asks nobody.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'sglang-router==0.3.2' 'aiohttp==3.14.5'
"$folder/venv/bin/python" - "$folder/router.log" <<'PYTHON'
import asyncio
import logging
import socket
import subprocess
import sys

from aiohttp import ClientError, ClientSession, web

asked = 0
full = True


async def engine(request):
    """A stand-in for an engine that has no room while `full` is true."""
    global asked
    if request.method != "POST":
        return web.json_response({"model_path": "tiny"})
    asked += 1
    if full:
        return web.json_response({"error": "queue is full"}, status=429, headers={"Retry-After": "30"})
    return web.json_response({"text": "an answer"})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def ask_through_the_router():
    global full
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
    rows = []
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
            for request in (1, 2, 3):
                full = request < 3
                before = asked
                async with session.post(base + "/generate", json={"text": "Who?"}) as answer:
                    rows.append((answer.status, asked - before, await answer.text()))
    finally:
        router.terminate()
        router.wait()
        await runner.cleanup()
    return rows


rows = asyncio.run(ask_through_the_router())
print("title:    to SGLang's router a full engine is a broken one, and two full answers take it out of service")
print("versions: sglang-router 0.3.2, its default flags")
print("expected: a 429 goes to the client with its Retry-After, and the engine stays in service")
for number, (status, calls, text) in enumerate(rows, 1):
    state = "full" if number < 3 else "free again"
    print(f"seen:     request {number}, engine {state}: asked {calls} times, the client gets {status} {text}")
if [row[:2] for row in rows] != [(429, 5), (429, 5), (503, 0)] or "no_available_workers" not in rows[2][2]:
    raise SystemExit("CHANGED: the router retries or breaks the circuit in another way")
PYTHON
