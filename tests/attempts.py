"""Records of attempts, as a test needs them."""

from gateway.exchange import AttemptRecord


def attempted(sent: float = 0.0, ended: float = 0.0, *, backend: str = "gpu/e:1") -> AttemptRecord:
    """Return the record of an attempt that was made from `sent` to `ended`, in seconds."""
    record = AttemptRecord(backend, backend.partition("/")[0], sent)
    record.ended_at = ended
    return record
