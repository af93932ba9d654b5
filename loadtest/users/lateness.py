"""How late the load generator itself was, since answers that it reads late look slow."""

import time
from collections import Counter
from collections.abc import Iterator

import gevent

from loadtest.report.figures import Distribution

_EVERY = 0.02
_WORTH_TELLING = 10


class Lateness:
    """Wakes up again and again until it is stopped, and counts by how many milliseconds it was late."""

    def __init__(self) -> None:
        self._late: Counter[float] = Counter()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Wake up no more."""
        self._greenlet.kill()

    def notes(self) -> Iterator[str]:
        """Say how late it was, where that is long enough to be seen in a report."""
        yield from told(Distribution.of(self._late))

    def _run(self) -> None:
        while True:
            due = time.monotonic() + _EVERY
            gevent.sleep(_EVERY)
            self._late[round(1000 * (time.monotonic() - due))] += 1


def told(late: Distribution) -> Iterator[str]:
    """Put a distribution of milliseconds in words."""
    p99 = late.percentile(99)
    if p99 is not None and p99 >= _WORTH_TELLING:
        yield (
            f"The load generator was busy: it woke up {p99:g} ms late (p99), {late.percentile(100):g} ms at most, and "
            "answers look as much slower. Another machine, or --processes, helps."
        )
