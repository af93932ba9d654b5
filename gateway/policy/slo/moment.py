"""The time that many windows have in common, and how far each has followed it."""

from math import inf


class Moment:
    """A time that is set: `now`, in seconds since the epoch."""

    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        self.now = now

    def __repr__(self) -> str:
        return f"<Moment {self.now:.2f}>"


class Followed:
    """How far something has followed a moment: to `now`. Without one it follows nothing but what it is told."""

    __slots__ = ("_moment", "now")

    def __init__(self, now: float, moment: Moment | None) -> None:
        self.now = now
        self._moment = moment if moment is not None else Moment(-inf)

    def __repr__(self) -> str:
        return f"<Followed to {self.now:.2f} of {self.latest:.2f}>"

    @property
    def latest(self) -> float:
        """The time that has to be followed to."""
        return max(self.now, self._moment.now)
