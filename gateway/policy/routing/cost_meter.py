"""What one engine costs, moment by moment, divided among the attempts that hold it."""


class CostMeter:
    """Divides what a backend costs evenly among the attempts in flight on it, and counts as idle what nobody holds.

    This is processor sharing: `_share` is what one attempt would have paid that was there from the beginning, so that
    the cost of an attempt is the difference between its end and its beginning. What attempts have paid or owe (`used`)
    and `idle` are together what the backend has cost.

    `price` is that of a second. Where several processes send attempts to the backend, `beside` are those of the others
    as of the last look, and `part` is this process's part of an idle moment.
    """

    __slots__ = ("_at", "_share", "beside", "held", "idle", "part", "price", "used")

    def __init__(self) -> None:
        self._at = self._share = 0.0
        self.held = self.beside = 0
        self.idle = self.used = 0.0
        self.part = 1.0
        self.price = 0.0

    def __repr__(self) -> str:
        return f"<CostMeter {self.used:.6f} used, {self.idle:.6f} idle>"

    def begin(self, now: float) -> float:
        """Let an attempt hold the backend from now on; return what `end` has to be told."""
        self._advance(now)
        self.held += 1
        return self._share

    def end(self, began: float, now: float) -> float:
        """Let an attempt hold it no more; return what it cost."""
        self._advance(now)
        self.held -= 1
        return self._share - began

    def look(self, beside: int, now: float) -> None:
        """Take how many attempts other processes have there."""
        self._advance(now)
        self.beside = max(0, beside)  # their sum and our part of it may have been read at different times

    def follow(self, price: float, part: float, now: float) -> None:
        """Take another price, and another part of idle moments, from now on."""
        self._advance(now)
        self.price, self.part = price, part

    def take(self) -> tuple[float, float]:
        """Return what was used and what was idle since the last call."""
        taken = self.used, self.idle
        self.used = self.idle = 0.0
        return taken

    def _advance(self, now: float) -> None:
        elapsed = now - self._at
        if elapsed <= 0.0:
            return
        self._at = now
        cost = elapsed * self.price
        if self.held:
            each = cost / (self.held + self.beside)
            self._share += each
            self.used += each * self.held
        elif not self.beside:
            self.idle += cost * self.part
