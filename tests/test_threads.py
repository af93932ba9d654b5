"""Work that blocks, in threads that no end of the process waits for."""

import threading

import pytest

from gateway.threads import in_thread

pytestmark = pytest.mark.anyio


async def test_what_blocks_runs_in_a_thread_that_no_end_waits_for() -> None:
    seen = list[threading.Thread]()
    await in_thread(lambda: seen.append(threading.current_thread()), "close")
    assert seen[0] is not threading.main_thread()
    assert seen[0].daemon
    assert seen[0].name == "close"


async def test_what_it_returns_or_raises_is_handed_on() -> None:
    assert await in_thread(lambda: 7, "seven") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(lambda: int("x"), "no number")
