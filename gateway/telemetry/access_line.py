"""What the access log says of one request."""

import msgspec


class AccessLine(msgspec.Struct, omit_defaults=True):
    """What is written of one request; seconds to a tenth of a millisecond, absent where there was none."""

    time: str
    request_id: str
    model: str
    endpoint: str
    outcome: str
    status: int
    e2e: float
    overhead: float
    service_class: str = msgspec.field(name="class", default="")
    tenant: str = ""
    version: str = ""
    pool: str = ""
    backend: str = ""
    attempts: int = 0
    stream: bool = False
    ttft: float | None = None
    tpot: float | None = None
    queue: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    reason: str = ""
    routing: str = ""
