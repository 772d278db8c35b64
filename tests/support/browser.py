"""A headless Chromium driven over its DevTools protocol, as a person would drive it: a page, a pointer, a keyboard."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --remote-debugging-port=0 --hide-scrollbars"
).split()
KEY_CODES = {"Enter": 13, "Escape": 27}


class Page:
    """``console`` holds what the page logged, refused scripts and requests included."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.console: list[str] = []
        self._socket = socket
        self._ids = itertools.count(1)
        self._loaded = False

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        call_id = next(self._ids)
        await self._socket.send_json({"id": call_id, "method": method, "params": params})
        while (message := await self._receive()).get("id") != call_id:
            pass
        assert "error" not in message, message
        return dict(message["result"])

    async def open(self, page: Path | str, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        await self.call("Log.enable")
        await self.call("Page.enable")
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        self.console.clear()
        self.leave()
        await self.call("Page.navigate", url=page.as_uri() if isinstance(page, Path) else page)
        await self.loaded()

    def leave(self) -> None:
        """Says that what follows leads to another page."""
        self._loaded = False

    async def loaded(self) -> None:
        """Waits until a page is there that was gone to."""
        while not self._loaded:
            await self._receive()

    async def go(self, key: str) -> None:
        """Presses a key that leads to another page, and waits for it."""
        self.leave()
        await self.press(key)
        await self.loaded()

    async def evaluate(self, expression: str) -> Any:
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def press(self, key: str) -> None:
        # The browser's own answers, to follow a link and to close a dialog, ask for the key as it is typed.
        typed: dict[str, Any] = {"windowsVirtualKeyCode": KEY_CODES[key]} if key in KEY_CODES else {}
        typed |= {"text": "\r"} if key == "Enter" else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **typed)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def point_at(self, selector: str) -> None:
        """Moves the pointer onto the first element of ``selector``, scrolled into view."""
        await self.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        await self.settle()
        box = f"document.querySelector({selector!r}).getClientRects()[0]"
        x, y = await self.evaluate(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({box})")
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def settle(self) -> None:
        """Waits two frames, after which the event of a scroll is over."""
        await self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    async def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._socket.receive_json(timeout=60)
        if message.get("method") == "Log.entryAdded":
            self.console.append(message["params"]["entry"]["text"])
        elif message.get("method") == "Page.loadEventFired":
            self._loaded = True
        return message


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Page]:
    """One page of a fresh browser, which ends with the block."""
    command = ("chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with aiohttp.ClientSession() as session:
            address = await asyncio.wait_for(_address(process.stderr), timeout=60)
            async with session.get(f"http://{address}/json/list") as response:
                target = next(target for target in await response.json() if target["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        await process.communicate()


async def _address(log: asyncio.StreamReader) -> str:
    async for line in log:
        announced, url = line.decode().partition("DevTools listening on ")[1:]
        if announced:
            return urlsplit(url.strip()).netloc
    raise AssertionError("chromium ended before it listened")
