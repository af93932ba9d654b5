"""Edges: what people are told of faults that come and go, of restarts, idle nights and single versions."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.policy.slo.objective import DAY
from loadtest.alerts.world import MONDAY, Service, constant, office

MINUTE, HOUR = 60.0, 3600.0


@dataclass(frozen=True, slots=True)
class Edge:
    """A scene, what people may be told in it, and what they were. `plain` is how often the plain rule would page."""

    name: str
    pages: int
    most_tickets: int
    told: tuple[int, int]
    plain: int
    resolved: bool
    words: str = ""

    @property
    def well(self) -> bool:
        """Whether it was told as it has to be."""
        return self.told[0] == self.pages and self.told[1] <= self.most_tickets and self.resolved


def _edge(name: str, service: Service, pages: int, most_tickets: int = 0, words: str = "") -> Edge:
    told = len(service.pages), len(service.tickets)
    return Edge(name, pages, most_tickets, told, service.plain, service.resolved == sum(told), words)


def quiet_outage(seed: int) -> Edge:
    """74 requests in an hour, all of them failed."""
    service = Service(0.999, constant(1 / 45), seed)
    service.run(75 * MINUTE, 1.0)
    service.run(DAY, tick=30.0)
    return _edge("total outage of a quiet model", service, 1)


def first_seconds(seed: int) -> Edge:
    """A process of twenty seconds."""
    service = Service(0.999, constant(10.0), seed)
    service.run(20.0, 1.0)
    service.run(DAY, tick=30.0)
    return _edge("first 20 s all fail", service, 0)


def hourly(seed: int) -> Edge:
    """Five minutes of each hour, twelve times."""
    service = Service(0.999, constant(10.0), seed)
    service.run(4 * DAY, tick=60.0)
    for _ in range(12):
        service.run(5 * MINUTE, 1.0, tick=5.0)
        service.run(55 * MINUTE, tick=10.0)
    service.run(3 * DAY, tick=60.0)
    return _edge("five minutes of each hour fail, 12 times", service, 1)


def flapping(seed: int) -> Edge:
    """Ten seconds of each minute, three hours."""
    service = Service(0.999, constant(20.0), seed)
    service.run(4 * DAY, tick=60.0)
    service.run(3 * HOUR, lambda now: 1.0 if now % MINUTE < 10 else 0.0, tick=2.0)
    service.run(3 * DAY, tick=60.0)
    return _edge("10 s of each minute fail, 3 h", service, 1)


def crash_loop(seed: int) -> Edge:
    """A gateway that lives a minute and is away for twenty seconds, in front of engines of which half fail."""
    service = Service(0.999, constant(5.0), seed, lasting=True)
    for _ in range(60):
        service.run(MINUTE, 0.5)
        service.restart(20.0)
    service.run(DAY, tick=30.0)
    return _edge("crash loop of the gateway, half fail, 80 min", service, 1)


def restart_within(seed: int) -> Edge:
    """A restart of a minute within an outage."""
    service = Service(0.999, constant(10.0), seed, lasting=True)
    service.run(2 * HOUR, tick=10.0)
    service.run(10 * MINUTE, 1.0)
    started = service.pages[0].started
    service.restart(MINUTE)
    service.run(10 * MINUTE, 1.0)
    service.run(DAY, tick=30.0)
    kept = all(notice.started == started for notice in service.told if notice.labels["severity"] == "page")
    return _edge("restart within an outage", service, 1, words="" if kept else "another startsAt")


def ended_while_down(seed: int) -> Edge:
    """An outage that is over when the gateway is back."""
    service = Service(0.999, constant(10.0), seed, lasting=True)
    service.run(2 * HOUR, tick=10.0)
    service.run(10 * MINUTE, 1.0)
    service.restart(8 * HOUR)
    service.run(10 * MINUTE)
    return _edge("outage ends while the gateway is down", service, 1)


def morning(seed: int) -> Edge:
    """The first second of an office's mornings fails, for a week."""
    service = Service(0.999, office(1.0), seed, start=MONDAY - 7 * DAY)
    service.run(7 * DAY, tick=60.0)
    for _ in range(5):
        service.run(9 * HOUR, tick=60.0)
        service.run(1.0, 1.0)
        service.run(15 * HOUR - 1.0, tick=30.0)
    return _edge("first second of five office mornings fails", service, 0)


def before_the_night(seed: int) -> Edge:
    """The last ten minutes before an idle night fail."""
    service = Service(0.999, office(1.0), seed, start=MONDAY - 7 * DAY)
    service.run(7 * DAY + 16 * HOUR + 50 * MINUTE, tick=60.0)
    service.run(10 * MINUTE, 1.0)
    service.run(3 * DAY, tick=30.0)
    return _edge("last ten minutes before an idle night fail", service, 1)


def slow_burn(seed: int) -> Edge:
    """A page's fault goes on below the paging rate for two days."""
    service = Service(0.999, constant(10.0), seed)
    service.run(4 * DAY, tick=60.0)
    service.run(20 * MINUTE, 1.0, tick=5.0)
    service.run(2 * DAY, 0.0045, tick=30.0)
    service.run(6 * DAY, tick=60.0)
    edge = _edge("outage, then 0.45 % fail for two days", service, 1, 1)
    return edge if edge.told[1] else Edge(edge.name, 1, 1, edge.told, edge.plain, resolved=False, words="in silence")


def one_version(seed: int) -> Edge:
    """One of two versions fails; the model's own alert follows."""
    service = Service(0.999, constant(10.0), seed, versions=2)
    service.run(2 * HOUR, tick=10.0)
    for _ in range(30):
        service.run(MINUTE, 1.0, version="v2", tick=2.0)
        service.run(MINUTE, tick=2.0)
    service.run(2 * DAY, tick=30.0)
    return _edge("one of two versions fails", service, 1)


def hourly_request(seed: int) -> Edge:
    """One request an hour, of which one in fifty fails, for sixty days."""
    service = Service(0.99, constant(1 / HOUR), seed)
    service.run(60 * DAY, 0.005, tick=600.0)
    return _edge("one request an hour, one in 200 fails, 60 days", service, 0)


SCENES: tuple[Callable[[int], Edge], ...] = (
    quiet_outage,
    first_seconds,
    hourly,
    flapping,
    crash_loop,
    restart_within,
    ended_while_down,
    morning,
    before_the_night,
    slow_burn,
    one_version,
    hourly_request,
)
