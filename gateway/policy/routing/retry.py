"""Whether a failed attempt is followed by another."""

MAX_RETRIES = 2


def may_retry(*, worth: bool, attempts: int, begun: bool, time_left: float) -> bool:
    """Return whether to try another backend after `attempts` tries.

    `worth` says that another backend may do better. Never once part of the answer has gone to the client (`begun`),
    nor without time left (seconds).
    """
    return worth and not begun and attempts <= MAX_RETRIES and time_left > 0
