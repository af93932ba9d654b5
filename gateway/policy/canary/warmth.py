"""When a backend's latency says something about its version, and no more about its start."""


class Warmth:
    """Answers of backends by id. A cold start (compilation, empty caches) is over after so many, and some time."""

    __slots__ = ("_answers", "_seconds", "_seen")

    def __init__(self, answers: int, seconds: float) -> None:
        self._answers = answers
        self._seconds = seconds
        self._seen: dict[str, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Warmth of {len(self._seen)} backends>"

    def answered(self, backend: str, now: float) -> None:
        """Count an answer, a synthetic one as well."""
        count, first = self._seen.get(backend, (0, now))
        self._seen[backend] = (count + 1, first)

    def is_warm(self, backend: str, now: float) -> bool:
        """Whether a latency measured now counts."""
        count, first = self._seen.get(backend, (0, now))
        return count >= self._answers and now - first >= self._seconds

    def answers(self, backend: str) -> int:
        """Return how many answers were counted."""
        return self._seen.get(backend, (0, 0.0))[0]

    def forget(self, backend: str) -> None:
        """Take a backend for cold again, after it was away."""
        self._seen.pop(backend, None)
