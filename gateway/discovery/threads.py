"""Blocking questions in threads of their own: one that hangs holds up no other, and no end of the process."""

import asyncio
import contextlib
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def asked(question: Callable[[], T], name: str) -> T:
    """Return the answer of something that blocks; raises what it raises, and RuntimeError where no thread is left."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = question()
        except Exception as error:  # noqa: BLE001 - handed on to whoever asked
            tell, told = _fail, error
        else:
            tell, told = _tell, result  # type: ignore[assignment]
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(tell, answer, told)

    Thread(target=run, name=name, daemon=True).start()
    return await answer


def _tell(answer: "asyncio.Future[T]", result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[T]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
