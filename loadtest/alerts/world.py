"""A service on a clock of its own: the gateway's windows and alerts, fed with what a tick of traffic comes to."""

from collections.abc import Callable, Iterator
from random import Random

from gateway.control.alerts import Alerter
from gateway.control.incidents import SENT, Notice
from gateway.policy.slo.alerts import PAIRS, AlertState, Severity
from gateway.policy.slo.burn import burn
from gateway.policy.slo.objective import DAY, Sli, Target
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.slots import Slot, merged
from gateway.policy.slo.windows import LASTING, Windows
from gateway.state.store import Document
from loadtest.alerts.chance import binomial, poisson

MONDAY = 1_700_438_400.0
"""A Monday, 0:00 UTC."""
SLO = 28 * DAY
CONFIRM = 2.0
AWAKE = frozenset({AlertState.PENDING, AlertState.FIRING})

Shape = Callable[[float], float]
"""A number for each moment: requests per second, or the share of them that fails."""


class Ledger:
    """As much of the gateway's ledger as alerts read: the availability of one model and of its versions."""

    def __init__(self, target: Target, versions: int, now: float) -> None:
        names = [f"v{number + 1}" for number in range(versions)]
        self.serving: dict[tuple[str, str], list[Series]] = {("m", version): [] for version in ("", *names)}
        self.model = _series(Kind.MODEL, "m", target, "", now)
        several = names if versions > 1 else []
        self.versions = {name: _series(Kind.VERSION, f"m/{name}", target, name, now) for name in several}

    def __iter__(self) -> Iterator[Series]:
        return iter((self.model, *self.versions.values()))

    def take_failed(self) -> list[Series]:
        """Return every series: few as they are, all may have failed."""
        return list(self)

    def counting(self, version: str) -> tuple[Series, ...]:
        """Return what counts the requests to a version."""
        return (self.model, self.versions[version]) if self.versions else (self.model,)

    def get(self, kind: Kind, name: str) -> list[Series]:
        """No backends: none is named."""
        return []

    def uncounted(self, windows: Windows) -> float:
        """All time was counted."""
        return 0.0


def _series(kind: Kind, name: str, target: Target, version: str, now: float) -> Series:
    return Series(SeriesKey(kind, name, "o", Sli.AVAILABILITY), target, Windows(now, SLO), model="m", version=version)


class Service:
    """Traffic of `rate` requests a second, counted, judged each tick, and restarted at will.

    `told` is what people were told; `plain` counts how often the plain rule (both burn rates above the factor) would
    have begun to page. Only a `lasting` one may be restarted.
    """

    def __init__(
        self,
        target: float,
        rate: Shape,
        seed: int,
        *,
        versions: int = 1,
        start: float = MONDAY,
        lasting: bool = False,
    ) -> None:
        self.now = start
        self.rate = rate
        self.target = Target(target)
        self.told: list[Notice] = []
        self.plain = 0
        self.bad = 0
        self.total = 0
        self._rng = Random(seed)
        self._versions = versions
        self._lasting = lasting
        self._patience = 0.0
        self._judged = start
        self._awake = False
        self._documents: list[Document] = []
        self._kept: dict[tuple[SeriesKey, float, int], Slot] = {}
        self._plain_fires = False
        self._begin()

    def run(
        self,
        seconds: float,
        failing: Shape | float = 0.0,
        *,
        tick: float = 1.0,
        version: str = "v1",
        patience: float = 0.0,
    ) -> None:
        """Let time pass; `failing` is the share of requests to one version that fail.

        While no pair is awake, ticks without a failure are judged only once in `patience` seconds, and idle ones never:
        what they change can hardly begin an alert.
        """
        self._patience = patience
        shape = failing if callable(failing) else _always(failing)
        until = self.now + seconds
        while self.now < until - 1e-6:
            step = min(tick, until - self.now)
            self.now += step
            total = poisson(self._rng, self.rate(self.now) * step)
            self.count(total, binomial(self._rng, total, shape(self.now)), version)

    def until_page(self, seconds: float, failing: float, *, tick: float = 1.0) -> float | None:
        """Let a share of requests fail; return after how long people were paged, None if not within these seconds."""
        began, known = self.now, len(self.pages)
        while self.now - began < seconds:
            self.run(tick, failing, tick=tick)
            if len(self.pages) > known:
                return self.now - began
        return None

    def count(self, total: int, bad: int, version: str = "v1") -> None:
        """Count what came since the last tick, and judge."""
        self.total += total
        self.bad += bad
        for series in self.ledger.counting(version):
            series.windows.good += total - bad
            series.windows.bad += bad
        if self._patience and not (bad or self._awake):
            if not total:
                return
            if self.now - self._judged < self._patience:
                self._advance()
                return
        self._judge()
        if self._lasting and total:
            self._save()
        states = {alert.state for _, _, alert in self.alerter}
        self._awake = self._plain_fires or not AWAKE.isdisjoint(states)
        if AlertState.PENDING in states:
            # The gateway looks each second: what is pending is looked at again before the next tick.
            self.now += CONFIRM
            self._judge()

    def restart(self, down: float = 0.0) -> None:
        """End the process without warning, and begin another one so many seconds later from what was kept."""
        self._documents = self.alerter.documents() or self._documents
        self.now += down
        self._begin()

    @property
    def pages(self) -> list[Notice]:
        """The pages that people got, resolutions left out."""
        return [each for each in self.told if each.firing and each.labels["severity"] == Severity.PAGE]

    @property
    def tickets(self) -> list[Notice]:
        """The tickets that people got."""
        return [each for each in self.told if each.firing and each.labels["severity"] == Severity.TICKET]

    @property
    def resolved(self) -> int:
        """How many incidents people were told the end of."""
        return sum(not each.firing for each in self.told)

    def _begin(self) -> None:
        self.ledger = Ledger(self.target, self._versions, self.now)
        self.alerter = Alerter(self.ledger, lambda: self.now, self._tell)  # type: ignore[arg-type]
        for series in self.ledger:
            for width in LASTING:
                slots = {at: slot for (key, of, at), slot in self._kept.items() if (key, of) == (series.key, width)}
                series.windows.restore(width, slots)
        self.alerter.restore(self._documents)

    def _tell(self, notice: Notice) -> None:
        self.told.append(notice)
        self.alerter.delivered(notice, SENT)

    def _advance(self) -> None:
        for series in self.ledger:
            series.windows.advance(self.now)

    def _judge(self) -> None:
        self._judged = self.now
        self._advance()
        self.alerter.evaluate()
        windows = self.ledger.model.windows
        if windows.spotless:
            self._plain_fires = False
            return
        fires = any(
            all(
                (burn(windows.count(length), self.target.budget) or 0.0) > pair.factor(SLO)
                for length in (pair.long, pair.short)
            )
            for pair in PAIRS[:2]
        )
        self.plain += fires and not self._plain_fires
        self._plain_fires = fires

    def _save(self) -> None:
        for series in self.ledger:
            slot = series.windows.unsaved()
            if slot[0] or slot[1]:
                for width in LASTING:
                    key = series.key, width, int(self.now // width)
                    self._kept[key] = merged(self._kept[key], slot) if key in self._kept else slot


def _always(share: float) -> Shape:
    return lambda _: share


def constant(rate: float) -> Shape:
    """The same rate at all times."""
    return _always(rate)


def bursty(rate: float) -> Shape:
    """All traffic in two minutes of each ten."""
    return lambda now: 5 * rate if now % 600 < 120 else 0.0


def office(rate: float) -> Shape:
    """From nine to five on weekdays."""
    return lambda now: 4.2 * rate if (now - MONDAY) % (7 * DAY) < 5 * DAY and 9 <= now % DAY / 3600 < 17 else 0.0


def nights_off(rate: float) -> Shape:
    """Idle from ten in the evening to seven."""
    return lambda now: 1.6 * rate if 7 <= now % DAY / 3600 < 22 else 0.0


SHAPES: dict[str, Callable[[float], Shape]] = {
    "constant": constant,
    "bursty": bursty,
    "office hours": office,
    "nights off": nights_off,
}
