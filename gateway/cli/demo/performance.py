"""One run of the demo: starts everything, shows it, ends everything."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Any

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gateway.cli.demo import stage
from gateway.cli.demo.figures import Figures
from gateway.cli.demo.load import Load
from gateway.cli.demo.rollout import commands, standing
from gateway.cli.demo.setting import PLAIN, ROLLOUT, Setting
from gateway.cli.demo.table import addresses, examples, line, tables
from gateway.cli.demo.tour.scene import Scene
from gateway.cli.demo.tour.setting import BATCH_RATE, TOUR, batch, interactive
from gateway.cli.demo.tour.steps import steps_of
from gateway.cli.demo.tour.telling import Telling
from gateway.cli.demo.watch import READ_EVERY, Watch
from gateway.processes.child import ProcessDied
from gateway.signals import requests_to_stop

_LINE_EVERY = 5.0
_READY_EVERY = 0.05
_READY_SECONDS = 30.0
_ANSWER_SECONDS = 60.0


class NothingServed(RuntimeError):
    """The time was over and no request had been answered."""


class NotAsTold(RuntimeError):
    """Something of the tour did not happen."""


class Performance:
    """Engines, gateway and load of a setting, and what is shown of them."""

    def __init__(self, console: Console, setting: Setting, *, rate: float, seed: int, plain: bool) -> None:
        self._console = console
        self._setting = setting
        self._rate = rate
        self._seed = seed
        self._plain = plain
        self._watch: Watch | None = None
        self._telling: Telling | None = None

    async def play(self, seconds: float | None, *, port: int, admin_port: int) -> None:
        """Run until the time is over or somebody interrupts; raises ProcessDied, NothingServed and NotAsTold."""
        interrupted = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in requests_to_stop():
            loop.add_signal_handler(number, interrupted.set)
        await _until_first(self._perform(seconds, port=port, admin_port=admin_port), interrupted.wait())
        whole = None if self._watch is None else self._watch.whole()
        if self._watch is None or whole is None:
            return
        self._console.print()
        self._console.print(tables(whole, f"all {whole.seconds:.0f} s", self._rollout(self._watch)))
        if not whole.requests and not interrupted.is_set():
            raise NothingServed(
                f"no request was answered in {whole.seconds:.0f} s; more --seconds or a higher --rate may help"
            )
        if self._telling is not None and (problem := self._telling.problem(interrupted=interrupted.is_set())):
            raise NotAsTold(problem)

    async def _perform(self, seconds: float | None, *, port: int, admin_port: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            built = await stage.build(stack, self._setting, port=port, admin_port=admin_port, seed=self._seed)
            users = await stack.enter_async_context(_client(built.data, _ANSWER_SECONDS))
            admin = await stack.enter_async_context(_client(built.admin, _READY_SECONDS))
            deaths = [child.watch() for child in built.children]
            await _until_first(_until_ready(users), *deaths)
            self._welcome(built, seconds)
            watch = self._watch = Watch(admin, rollout=self._setting is not PLAIN)
            work: list[Coroutine[Any, Any, object]] = [self._load(users).run(), self._show(watch, seconds)]
            if self._setting is TOUR:
                work.append(self._tour(built, users, watch))
            deaths = [child.watch() for child in built.children]
            await _until_first(*work, *deaths)

    def _welcome(self, built: stage.Stage, seconds: float | None) -> None:
        ending = f"ends after {seconds:g} s" if seconds else "Ctrl-C ends it"
        self._print(addresses(built.data, built.admin))
        if self._setting is not TOUR:
            self._print(examples(built.data))
        self._print(f"{self._setting.words}; {ending}.\n")
        if self._setting is TOUR:
            self._print("A tour of two minutes. All numbers are those that the gateway measures.")
        if self._setting is ROLLOUT:
            self._print(commands(built.admin))

    def _load(self, users: httpx.AsyncClient) -> Load:
        rng = Random(self._seed)
        if self._setting is TOUR:
            return Load(users, self._rate, rng, of=interactive, service_class="interactive")
        return Load(users, self._rate, rng)

    async def _tour(self, built: stage.Stage, users: httpx.AsyncClient, watch: Watch) -> None:
        flood = Load(users, BATCH_RATE, Random(self._seed + 1), of=batch, service_class="batch")
        scene = Scene(users, built.admin, flood)
        self._telling = Telling(steps_of(scene, built.engines), watch, head=self._head, say=self._say)
        try:
            await self._telling.tell()
            await asyncio.Event().wait()  # the load goes on until the time is over
        finally:
            await scene.calm()

    async def _show(self, watch: Watch, seconds: float | None) -> None:
        """Read and show the figures until `seconds` are over."""
        await watch.read()
        with self._screen() as show:
            while seconds is None or watch.elapsed < seconds:
                await asyncio.sleep(READ_EVERY)
                await watch.read()
                show(watch.lately(), watch.elapsed, self._rollout(watch))

    @contextlib.contextmanager
    def _screen(self) -> Iterator[Callable[[Figures, float, str], None]]:
        """Give a function that shows figures, the seconds since the beginning, and a line, as suits the output."""
        if self._plain:
            due = _LINE_EVERY

            def write(figures: Figures, elapsed: float, below: str) -> None:
                nonlocal due
                if elapsed >= due:
                    self._print("  ".join(filter(None, (line(figures, elapsed), below))))
                    due += _LINE_EVERY

            yield write
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            yield lambda figures, elapsed, below: live.update(
                Group("", tables(figures, f"after {elapsed:.0f} s, over the last {figures.seconds:.0f} s", below)),
                refresh=True,
            )

    def _rollout(self, watch: Watch) -> str:
        """Return where the rollout stands, "" where there is none to tell of."""
        status = watch.now.rollout
        return standing(status) if status and status["phase"] != "idle" else ""

    def _head(self, text: str) -> None:
        """Print a title of the tour, after an empty line; on a terminal above the table, as all that is said."""
        self._print("")
        self._say(text, style="bold")

    def _say(self, text: str, style: str = "") -> None:
        if self._plain:
            self._print(text)
        else:
            self._console.print(Text(text, style=style))

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
