"""Which backends keep which stored responses, over restarts."""

from collections.abc import Iterable

from gateway.proxy.stored import Made, StoredResponses
from gateway.state.store import Response


class Remembering:
    """Takes what is known of stored responses to the store and back."""

    def __init__(self, stored: StoredResponses, started: float) -> None:
        """Take what the data plane knows, and when its clock was 0, in seconds since the epoch."""
        self._stored = stored
        self._started = started

    def restore(self, kept: Iterable[Response]) -> None:
        """Take back what was kept over a restart."""
        self._stored.restore((each.id, self._made(each)) for each in kept)

    def unsaved(self) -> list[Response]:
        """Return what was noted since the last call."""
        return [
            Response(
                made.at + self._started,
                digest,
                made.backend,
                made.model,
                made.version,
                made.tenant,
                (made.asked or b"").decode(errors="replace"),
            )
            for digest, made in self._stored.unsaved()
        ]

    def _made(self, kept: Response) -> Made:
        asked = kept.asked.encode() or None
        return Made(kept.backend, kept.model, kept.version, kept.tenant, asked, kept.at - self._started)
