"""The act: start everything, show it, end everything."""

import asyncio
import json
import re
import signal
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Annotated

import httpx
import typer
from rich.console import Console, RenderableType
from rich.live import Live

from gateway.cli.demo.figures import Figures, read
from gateway.cli.demo.load import MODEL, Load
from gateway.cli.demo.processes import Child, ProcessDied, spawn
from gateway.cli.demo.table import picture, welcome

_ENGINES = (("gpu", "gpu"), ("gpu", "gpu"), ("cpu", "cpu"))
_REFRESH = 0.5
_PLAIN_EVERY = 10
_RATE_OVER = 10
_URL = re.compile(r"http://[0-9.]+:\d+")
_console = Console(highlight=False)


def demo(
    *,
    seconds: Annotated[float | None, typer.Option(min=1, help="End after so long; without it, at Ctrl-C.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the gateway; 0 for a free one.")] = 0,
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="Its admin port; 0 for a free one.")] = 0,
    rate: Annotated[float, typer.Option(min=0.1, max=200, help="Requests a second, on average.")] = 6.0,
    seed: Annotated[int, typer.Option(help="Decides what is asked, and what the engines answer.")] = 0,
    plain: Annotated[bool, typer.Option(help="Print the table now and then instead of redrawing it.")] = False,
) -> None:
    """Run simulated engines, the gateway and a gentle load on this machine, and show what the gateway measures."""
    stage = Stage(port=port, admin_port=admin_port, rate=rate, seed=seed, plain=plain or not _console.is_terminal)
    try:
        asyncio.run(stage.play(seconds))
    except ProcessDied as error:
        Console(stderr=True, highlight=False).print(f"tidegate demo: {error}", markup=False)
        raise typer.Exit(1) from None


class Stage:
    """One run of the demo."""

    def __init__(self, *, port: int, admin_port: int, rate: float, seed: int, plain: bool) -> None:
        self._port = port
        self._admin_port = admin_port
        self._rate = rate
        self._seed = seed
        self._plain = plain
        self._children: list[Child] = []
        self._history: deque[tuple[float, Figures]] = deque(maxlen=int(_RATE_OVER / _REFRESH))

    async def play(self, seconds: float | None) -> None:
        """Run until the time is over or somebody interrupts; raises ProcessDied."""
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, over.set)
        async with AsyncExitStack() as stack:
            data, admin = await self._raise_curtain(stack)
            _console.print(welcome(data, admin), markup=False, soft_wrap=True)
            stopping = f"ends after {seconds:g} s" if seconds else "Ctrl-C ends it"
            _console.print(f"  two GPU engines, one CPU engine, {self._rate:g} requests/s; {stopping}\n")
            load = asyncio.create_task(Load(data, self._rate, Random(self._seed)).run())
            stack.push_async_callback(_cancel, load)
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=admin, trust_env=False))
            if seconds:
                loop.call_later(seconds, over.set)
            await self._show(client, over)

    async def _raise_curtain(self, stack: AsyncExitStack) -> tuple[str, str]:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-demo-")))
        engines = await asyncio.gather(
            *(self._engine(stack, index, profile) for index, (_, profile) in enumerate(_ENGINES))
        )
        pools: dict[str, dict[str, object]] = {}
        for (pool, profile), url in zip(_ENGINES, engines, strict=True):
            entry = pools.setdefault(pool, {"accelerator": profile, "backends": []})
            backends = entry["backends"]
            if isinstance(backends, list):
                backends.append(url)
        model = {"aliases": ["gpt-4o-mini"], "versions": {"v1": {"pools": list(pools), "served_model": MODEL}}}
        routes = folder / "routes.yaml"
        routes.write_text(json.dumps({"pools": pools, "models": {MODEL: model}}))
        arguments = ("gateway.cli", "serve", str(routes), "--port", str(self._port))
        gateway = await self._spawn(stack, "the gateway", (*arguments, "--admin-port", str(self._admin_port)))
        if gateway.process.stderr is None:
            raise gateway.died()
        line = await gateway.line_with(gateway.process.stderr, "tidegate serves")
        data, admin = _URL.findall(line)
        await _until_ready(data)
        return data, admin

    async def _engine(self, stack: AsyncExitStack, index: int, profile: str) -> str:
        arguments = ("--port", "0", "--profile", profile, "--model", MODEL, "--seed", str(self._seed + index))
        child = await self._spawn(stack, f"engine {index}", ("gateway.sim", *arguments), stdout=asyncio.subprocess.PIPE)
        if child.process.stdout is None:
            raise child.died()
        line = await child.line_with(child.process.stdout, "listening on")
        return str(_URL.findall(line)[0])

    async def _spawn(
        self, stack: AsyncExitStack, name: str, arguments: tuple[str, ...], stdout: int = asyncio.subprocess.DEVNULL
    ) -> Child:
        child = await spawn(name, arguments, stdout=stdout)
        stack.push_async_callback(child.stop)
        self._children.append(child)
        return child

    async def _show(self, client: httpx.AsyncClient, over: asyncio.Event) -> None:
        async with _screen(self._plain) as show:
            turn = 0
            while not over.is_set():
                for child in self._children:
                    if not child.alive:
                        raise child.died()
                now = asyncio.get_running_loop().time()
                figures = read((await client.get("/metrics")).text)
                since, before = self._history[0] if self._history else (now, figures)
                self._history.append((now, figures))
                if not self._plain or turn % _PLAIN_EVERY == _PLAIN_EVERY - 1:
                    show(picture(figures, before, now - since))
                turn += 1
                await _pause(over, _REFRESH)
        if self._plain and self._history:
            _console.print("at the end")
            _console.print(picture(self._history[-1][1], Figures(), self._history[-1][0] - self._history[0][0]))


@asynccontextmanager
async def _screen(plain: bool) -> AsyncIterator[Callable[[RenderableType], None]]:
    if plain:
        yield _console.print
        return
    with Live(console=_console, auto_refresh=False) as live:
        yield lambda table: live.update(table, refresh=True)


async def _until_ready(data: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(100):
            if (await client.get(f"{data}/ready")).status_code == 200:
                return
            await asyncio.sleep(0.1)
    raise ProcessDied("the gateway found no engine ready in 10 s")


async def _pause(over: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await over.wait()
    except TimeoutError:
        return


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
