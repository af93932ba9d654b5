"""The command: starts everything, shows it, ends everything."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.live import Live

from gateway.cli.demo import stage
from gateway.cli.demo.figures import Figures, Reading, compare, read
from gateway.cli.demo.load import Load
from gateway.cli.demo.rollout import STATUS, commands, standing
from gateway.cli.demo.table import line, tables, welcome
from gateway.processes.child import ProcessDied
from gateway.signals import requests_to_stop

_READ_EVERY = 0.5
_LINE_EVERY = 5.0
_LOOK_BACK = 30.0
_READY_EVERY = 0.05
_READY_SECONDS = 30.0
_ANSWER_SECONDS = 60.0
_RATE, _CANARY_RATE = 6.0, 12.0


class NothingServed(RuntimeError):
    """The time was over and no request had been answered."""


def demo(
    *,
    seconds: Annotated[float | None, typer.Option(min=1, help="Seconds to run; by default until Ctrl-C.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the gateway; 0 for any free one.")] = 0,
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="Admin port; 0 for any free one.")] = 0,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, max=200, help="Average requests per second: 6, or 12 with --canary.", show_default=False),
    ] = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="Roll out a second version step by step, in about three minutes.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the requests and of the engines' answers.")] = 0,
    plain: Annotated[bool, typer.Option(help="Print a line every 5 s instead of a live table.")] = False,
) -> None:
    """Run simulated engines, the gateway and a light load.

    All of it runs on this machine. The table shows what the gateway measures.
    """
    console = Console(highlight=False)
    asked = rate or (_CANARY_RATE if canary else _RATE)
    act = Act(console, rate=asked, seed=seed, plain=plain or not console.is_terminal, canary=canary)
    try:
        stage.claim(port, admin_port)
        asyncio.run(act.play(seconds, port=port, admin_port=admin_port))
    except (stage.PortTaken, ProcessDied, NothingServed) as error:
        typer.echo(f"tidegate demo: {error}", err=True)
        raise typer.Exit(1) from None


class Act:
    """One run of the demo."""

    def __init__(self, console: Console, *, rate: float, seed: int, plain: bool, canary: bool) -> None:
        self._console = console
        self._rate = rate
        self._seed = seed
        self._plain = plain
        self._canary = canary
        self._rollout = ""
        self._first: Reading | None = None
        self._recent: deque[Reading] = deque(maxlen=int(_LOOK_BACK / _READ_EVERY) + 1)

    async def play(self, seconds: float | None, *, port: int, admin_port: int) -> None:
        """Run until the time is over or somebody interrupts; raises ProcessDied and NothingServed."""
        interrupted = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in requests_to_stop():
            loop.add_signal_handler(number, interrupted.set)
        await _until_first(self._perform(seconds, port=port, admin_port=admin_port), interrupted.wait())
        if self._first is None:
            return
        whole = compare(self._recent[-1], self._first)
        self._console.print()
        self._console.print(tables(whole, f"all {whole.seconds:.0f} s", self._rollout))
        if not whole.requests and not interrupted.is_set():
            raise NothingServed(
                f"no request was answered in {whole.seconds:.0f} s; more --seconds or a higher --rate may help"
            )

    async def _perform(self, seconds: float | None, *, port: int, admin_port: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            built = await stage.build(stack, port=port, admin_port=admin_port, seed=self._seed, canary=self._canary)
            users = await stack.enter_async_context(_client(built.data, _ANSWER_SECONDS))
            scraper = await stack.enter_async_context(_client(built.admin, _READY_SECONDS))
            deaths = [child.watch() for child in built.children]
            await _until_first(_until_ready(users), *deaths)
            ending = f"ends after {seconds:g} s" if seconds else "Ctrl-C ends it"
            engines = f"{3 if self._canary else 2} GPU engines, 1 CPU engine, all simulated"
            self._print(f"{welcome(built.data, built.admin)}\n{engines}; {ending}.\n")
            if self._canary:
                self._print(commands(built.admin))
            load = Load(users, self._rate, Random(self._seed))
            deaths = [child.watch() for child in built.children]
            await _until_first(load.run(), self._show(scraper, seconds), *deaths)

    async def _show(self, scraper: httpx.AsyncClient, seconds: float | None) -> None:
        """Read and show the figures until `seconds` are over."""
        began = await self._read(scraper)
        self._first = began
        with self._screen() as show:
            while seconds is None or self._recent[-1].at - began.at < seconds:
                await asyncio.sleep(_READ_EVERY)
                now = await self._read(scraper)
                show(compare(now, self._recent[0]), now.at - began.at)

    @contextlib.contextmanager
    def _screen(self) -> Iterator[Callable[[Figures, float], None]]:
        """Give a function that shows figures and the seconds since the beginning, in the way that suits the output."""
        if self._plain:
            due = _LINE_EVERY

            def write(figures: Figures, elapsed: float) -> None:
                nonlocal due
                if elapsed >= due:
                    self._print("  ".join(filter(None, (line(figures, elapsed), self._rollout))))
                    due += _LINE_EVERY

            yield write
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            yield lambda figures, elapsed: live.update(
                tables(figures, f"after {elapsed:.0f} s, over the last {figures.seconds:.0f} s", self._rollout),
                refresh=True,
            )

    async def _read(self, scraper: httpx.AsyncClient) -> Reading:
        try:
            text = (await scraper.get("/metrics")).raise_for_status().text
            if self._canary:
                self._rollout = standing((await scraper.get(STATUS)).raise_for_status().json())
        except httpx.HTTPError as error:
            # Let the end of the gateway be told as such, if it is one.
            await asyncio.sleep(1)
            raise ProcessDied(f"the gateway's metrics cannot be read: {error!r}") from None
        reading = read(text, asyncio.get_running_loop().time())
        self._recent.append(reading)
        return reading

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)
        self._console.file.flush()


def _client(url: str, timeout: float) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False)


async def _until_ready(users: httpx.AsyncClient) -> None:
    """Wait for the gateway to find an engine ready; raises ProcessDied."""
    for _ in range(int(_READY_SECONDS / _READY_EVERY)):
        with contextlib.suppress(httpx.HTTPError):
            if (await users.get("/ready")).status_code == 200:
                return
        await asyncio.sleep(_READY_EVERY)
    raise ProcessDied(f"no engine was ready within {_READY_SECONDS:g} s")


async def _until_first(*works: Coroutine[Any, Any, object]) -> None:
    """Run until one of several is done, and raise what it raised; the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
