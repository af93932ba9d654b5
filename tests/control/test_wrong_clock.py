"""A gateway whose time is not that of the store."""

import pytest

from gateway.control.persistence import Flusher
from gateway.state.store import Ejection, StateError
from tests.control.test_persistence import Shelf, counting
from tests.waiting import HandClock

pytestmark = pytest.mark.anyio


class Elsewhere(Shelf):
    """A shelf at which it is another time."""

    seconds = 0.0

    def ahead(self, now: float) -> float:
        if self.broken:
            raise StateError(self.reason)
        return self.seconds


async def test_a_clock_that_is_not_the_stores_is_told_once_it_is_known(caplog: pytest.LogCaptureFixture) -> None:
    clock, shelf = HandClock(), Elsewhere(broken=True)
    saving = Flusher(shelf, counting(), list[Ejection], clock)

    def told() -> list[float]:
        return [each.seconds_ahead for each in caplog.records if "restart it" in each.message]  # type: ignore[attr-defined]

    shelf.seconds = -3600.0
    await saving.flush()
    assert not told()
    shelf.broken = False
    for shelf.seconds, expected in ((-3600.0, 1), (-3600.0, 1), (0.2, 1), (12.0, 2)):
        await saving.flush()
        await saving.flush()
        assert len(told()) == expected
        clock.advance(61.0)
    assert told() == [-3600.0, 12.0]
    await saving.close()
