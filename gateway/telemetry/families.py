"""Metric families as text: samples are formatted as they are added, so that a scrape can be made in small pieces.

The text is what prometheus_client writes of the same samples, byte for byte, at a tenth of its cost.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from operator import itemgetter
from typing import Final, Protocol, TypeVar

from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from gateway.telemetry.histogram import Histogram
from gateway.wire.slices import Work

_Labels = TypeVar("_Labels", bound=tuple[str, ...])
_TOGETHER: Final = 16
"""Samples that are added in one piece."""
_LINES: Final = 256
"""Lines that are joined to one block."""
_GO_EXPONENT: Final = 1e6
"""From here on a number is written with an exponent."""
_OPEN_METRICS: Final = "application/openmetrics-text"
_OTHER_ESCAPING: Final[tuple[str, ...]] = ("escaping=dots", "escaping=values")


class Family:
    """One metric with all its samples. Counters are named without `_total`, as in OpenMetrics."""

    __slots__ = ("_blocks", "_help", "_kind", "_lines", "_name", "_order", "_quotes", "_sorted", "_template")

    def __init__(self, kind: str, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self._kind, self._name, self._help = kind, name, text
        self._order = sorted(range(len(labels)), key=labels.__getitem__)
        self._sorted = _picker(self._order)
        self._quotes = 2 * len(labels)
        pairs = ",".join(f'{labels[each]}="%s"' for each in self._order)
        self._template = f"{name}{'_total' if kind == 'counter' else ''}{f'{{{pairs}}}' if pairs else ''} %s\n"
        self._lines: list[str] = []
        self._blocks: list[bytes] = []

    def __repr__(self) -> str:
        return f"<Family {self._name}>"

    def add(self, labels: Sequence[str], value: float) -> None:
        """Add a sample: the values of its labels, in the order of their names, and its own."""
        line = self._template % (*self._sorted(labels), number(value))
        if "\\" in line or line.count('"') != self._quotes or line.count("\n") != 1:
            line = self._template % (*map(_escaped, self._sorted(labels)), number(value))
        self._lines.append(line)
        if len(self._lines) >= _LINES:
            self._join()

    def blocks(self, *, open_metrics: bool) -> list[bytes]:
        """Return its text, in blocks."""
        self._join()
        name = self._name if open_metrics or self._kind != "counter" else f"{self._name}_total"
        help_text = self._help.replace("\\", r"\\")
        if open_metrics:
            help_text = help_text.replace('"', r"\"")
        return [f"# HELP {name} {help_text}\n# TYPE {name} {self._kind}\n".encode(), *self._blocks]

    def _join(self) -> None:
        if self._lines:
            self._blocks.append("".join(self._lines).encode())
            self._lines = []


class HistogramFamily(Family):
    """A histogram; the buckets of one are added together, so that they agree with each other."""

    __slots__ = ("_after", "_before", "_rest")

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        super().__init__("histogram", name, text, labels)
        names = [labels[each] for each in self._order]
        pairs = [f'{each}="%s"' for each in names]
        first = sum(each < "le" for each in names)
        self._before = "".join(f"{pair}," for pair in pairs[:first])
        self._after = "".join(f",{pair}" for pair in pairs[first:])
        self._rest = f"{{{','.join(pairs)}}}" if pairs else ""

    def add_histogram(self, labels: Sequence[str], histogram: Histogram) -> None:
        """Add all buckets, the count and the sum of one histogram."""
        values = tuple(map(_escaped, self._sorted(labels)))
        first = self._before.count("%s")
        before = f'{self._name}_bucket{{{self._before % values[:first]}le="'
        after = f'"{self._after % values[first:]}}} '
        rest = self._rest % values
        buckets = histogram.cumulative()
        self._lines += [f"{before}{bound}{after}{number(count)}\n" for bound, count in buckets]
        self._lines.append(f"{self._name}_count{rest} {number(buckets[-1][1])}\n")
        self._lines.append(f"{self._name}_sum{rest} {number(histogram.total)}\n")
        if len(self._lines) >= _LINES:
            self._join()


Piece = Family | None
"""A family that is complete; None after each bounded piece of work on the way there."""


class Collector(Protocol):
    """What has metrics."""

    def collect(self) -> Iterator[Piece]:
        """Yield all of them as they are now, with None in between."""


def counter(name: str, text: str, labels: Sequence[str] = ()) -> Family:
    """Return a counter of the gateway's, without samples yet."""
    return Family("counter", f"tidegate_{name}", text, labels)


def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Family:
    """Return a gauge of the gateway's, without samples yet."""
    return Family("gauge", f"tidegate_{name}", text, labels)


def single(family: Family, value: float) -> Family:
    """Return a family with its only sample."""
    family.add((), value)
    return family


def with_samples(family: Family, values: Mapping[_Labels, float]) -> Iterator[Piece]:
    """Yield a family with a sample for each of these values, by its labels."""
    for count, (labels, value) in enumerate(list(values.items())):
        family.add(labels, value)
        if count % _TOGETHER == 0:
            yield None
    yield family


def with_histograms(family: HistogramFamily, values: Mapping[_Labels, Histogram]) -> Iterator[Piece]:
    """Yield a family with each of these histograms, by its labels."""
    for labels, histogram in list(values.items()):
        family.add_histogram(labels, histogram)
        yield None
    yield family


def number(value: float) -> str:
    """Return a number as Go writes it."""
    value = float(value)
    return repr(value) if -inf < value < _GO_EXPONENT else str(floatToGoString(value))


def negotiate(accept: str) -> tuple[bool, str]:
    """Return whether a client that accepts this gets OpenMetrics rather than Prometheus' own text, and its type.

    No name of the gateway's has to be escaped, so that the ways to do it differ in nothing.
    """
    _, content_type = choose_encoder(accept)
    for way in _OTHER_ESCAPING:
        content_type = content_type.replace(way, "escaping=underscores")
    return content_type.startswith(_OPEN_METRICS), content_type


def rendered(collectors: Sequence[Collector], *, open_metrics: bool) -> Work[list[bytes]]:
    """Return what collectors have, as blocks of text."""
    found: list[bytes] = []
    for collector in collectors:
        for piece in collector.collect():
            if piece is not None:
                found += piece.blocks(open_metrics=open_metrics)
            yield
    return found


def _picker(order: Sequence[int]) -> Callable[[Sequence[str]], tuple[str, ...]]:
    """Return what takes these items of a sequence."""
    if len(order) > 1:
        return itemgetter(*order)
    return tuple


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value
