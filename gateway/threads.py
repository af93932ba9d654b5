"""Blocking work in threads of their own: what hangs holds up no other, and no end of the process."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Return what something that blocks returns; raises what it raises, and RuntimeError where no thread is left."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            returned = work()
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits
            tell = partial(_fail, result, error)
        else:
            tell = partial(_tell, result, returned)
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(tell)

    Thread(target=run, name=name, daemon=True).start()
    return await result


def _tell(result: "asyncio.Future[T]", returned: T) -> None:
    if not result.done():
        result.set_result(returned)


def _fail(result: "asyncio.Future[T]", error: Exception) -> None:
    if not result.done():
        result.set_exception(error)
