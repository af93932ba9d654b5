"""A page in the distribution's Chromium, driven through the DevTools protocol over two pipes."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import DEADLINE

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here; `.ci/run` installs it")
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


@dataclass
class Page:
    """One page: what its console said, and the addresses that it asked for."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    session: str = ""
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    _number: int = 0
    _answers: dict[int, asyncio.Future[Any]] = field(default_factory=dict)

    async def listen(self) -> None:
        """Take answers and events, until cancelled."""
        while True:
            told = json.loads((await self.reader.readuntil(b"\0"))[:-1])
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            else:
                self._happened(told["method"], told["params"])

    def _happened(self, method: str, about: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Log.entryAdded":
            self.console.append(f"{about['entry']['level']}: {about['entry']['text']}")
        elif method == "Runtime.consoleAPICalled":
            self.console.append(f"{about['type']}: {about['args']}")
        elif method == "Runtime.exceptionThrown":
            self.console.append(f"exception: {about['exceptionDetails']}")

    async def call(self, method: str, **about: Any) -> Any:
        """Return the result of a command."""
        self._number += 1
        self._answers[self._number] = answer = asyncio.get_running_loop().create_future()
        command: dict[str, Any] = {"id": self._number, "method": method, "params": about}
        if self.session:
            command["sessionId"] = self.session
        self.writer.write(json.dumps(command).encode() + b"\0")
        async with asyncio.timeout(DEADLINE):
            told = await answer
        assert "error" not in told, told
        return told["result"]

    async def run(self, script: str) -> Any:
        """Return what a script's last expression comes to, of which a promise is waited for."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until a script comes to something true, and return that."""
        async with asyncio.timeout(DEADLINE):
            while not (found := await self.run(script)):
                await asyncio.sleep(0.05)
            return found

    async def open(self, url: str) -> None:
        """Go there, and wait until all is loaded that the page names."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        self.loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(DEADLINE):
            await self.loaded.wait()

    async def screen(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """Take a screen of this width, in light or dark colours."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


@asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Page]:
    """Run a browser with one empty page until the block ends."""
    assert BROWSER is not None
    loop = asyncio.get_running_loop()
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    # The browser reads from descriptor 3 and writes to descriptor 4.
    shell = f'exec "$0" "$@" 3<&{to_read} 4>&{from_write} {to_read}<&- {from_write}>&-'
    arguments = (*_OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank")
    with profile.with_name("browser.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", shell, BROWSER, *arguments, pass_fds=(to_read, from_write), stdout=log, stderr=log
        )
    os.close(to_read)
    os.close(from_write)
    reader = asyncio.StreamReader(limit=2**26)
    incoming, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_read, "rb"))
    outgoing, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(to_write, "wb"))
    page = Page(reader, asyncio.StreamWriter(outgoing, protocol, None, loop))
    listening = asyncio.create_task(page.listen())
    try:
        targets = (await page.call("Target.getTargets"))["targetInfos"]
        (target,) = [each["targetId"] for each in targets if each["type"] == "page"]
        attached = await page.call("Target.attachToTarget", targetId=target, flatten=True)
        page.session = attached["sessionId"]
        yield page
    finally:
        listening.cancel()
        outgoing.close()
        incoming.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
