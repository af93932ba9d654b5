"""How a recording is looked at: how long it is, what its requests are told apart by, and in which bins of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.report.figures import Bins, grouped
from loadtest.report.recording import Event, Recording, Request

UNNAMED, ALL = "unnamed", "all"


@dataclass(frozen=True, slots=True)
class View:
    """A recording with its requests in groups: by gateway where there are `several`, else by the name of the request.

    `seconds` is the run's length; it reaches to the last request where one was due later than the run should last.
    """

    recording: Recording
    seconds: float
    several: bool
    groups: Mapping[str, Sequence[Request]]
    bins: Bins

    @classmethod
    def of(cls, recording: Recording) -> "View":
        """Look at a recording; it may be empty."""
        requests = recording.requests
        gateways = grouped(requests, lambda request: request.gateway or UNNAMED)
        several = len(gateways) > 1
        groups = gateways if several else grouped(requests, lambda request: request.name or UNNAMED)
        seconds = max([recording.about.seconds, *(request.at + 1e-6 for request in requests)])
        lines = len(gateways) or 1
        return cls(recording, seconds, several, groups, Bins.over(seconds, len(requests) / lines))

    @property
    def events(self) -> Sequence[Event]:
        """What happened, in its order; the places in it are the numbers in plots."""
        return sorted(self.recording.about.events, key=lambda event: event.at)

    @property
    def grouped_by(self) -> str:
        """What the groups are, in one word."""
        return "gateway" if self.several else "request"

    @property
    def judged(self) -> Mapping[str, Sequence[Request]]:
        """The groups as they are judged: with all requests beside them, except where gateways stand in competition."""
        if self.several or len(self.groups) < 2:
            return self.groups
        return {**self.groups, ALL: self.recording.requests}
