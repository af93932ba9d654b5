"""A request as engines read it: the head that the gateway writes, and the client's body with little of it rewritten."""

from typing import Final

from gateway.backends.backend import Backend
from gateway.exchange import Dialect
from gateway.proxy.live_version import LiveVersion
from gateway.proxy.spec import RequestSpec
from gateway.wire.body import Body
from gateway.wire.rope import Rope

_USAGE_ON_REQUEST: Final = frozenset((Dialect.CHAT, Dialect.COMPLETIONS))


class EngineRequest:
    """What an engine is sent: `fields` and `body`, or `urgent_body` where it schedules by priority.

    `request_id` is the request's id as engines see it. `given` is the client's body, which another version may need
    written anew; `strip_usage` says that the client has not asked for the token counts that `body` asks for. Once the
    answer has begun it is forgotten.
    """

    __slots__ = ("_spec", "body", "fields", "given", "request_id", "strip_usage", "urgent_body")

    def __init__(self, spec: RequestSpec, fields: bytes, request_id: str) -> None:
        self._spec: Final = spec
        self.request_id: Final = request_id
        self.fields = fields
        self.given: Body | None = None
        self.body: bytes | Rope = b""
        self.urgent_body: bytes | Rope | None = None
        self.strip_usage = False

    def __repr__(self) -> str:
        return f"<EngineRequest {self.request_id} of {len(self.body)} bytes>"

    def write(self, given: Body, version: LiveVersion) -> None:
        """Rewrite the client's body for the engines of a version."""
        spec, served = self._spec, None
        if given.model != version.served_model:
            served = version.served_json if spec.endpoint.is_json else version.served_model.encode()
        add_usage = given.stream and spec.endpoint.dialect in _USAGE_ON_REQUEST
        urgent = version.by_priority and not spec.is_copy
        self.given = given
        self.urgent_body = given.rewritten(served, add_usage, spec.service_class.priority) if urgent else None
        self.body = given.rewritten(served, add_usage)
        self.strip_usage = given.usage_added

    def forget(self) -> None:
        """Let go of what only another attempt would need."""
        self.given = self.urgent_body = None
        self.body = self.fields = b""

    def written_for(self, backend: Backend) -> tuple[bytes, Rope | None]:
        """Return the request as this backend shall read it, and what of its body follows: a long one."""
        urgent = self.urgent_body is not None and backend.spec.priority_scheduling
        body = self.urgent_body if urgent and self.urgent_body is not None else self.body
        short, long = (b"", body) if isinstance(body, Rope) else (body, None)
        endpoint = self._spec.endpoint
        # A literal format of bytes and integers is compiled; by any other name it would be read for every request.
        written = (
            b"%b %b%b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b%bx-request-id: %b\r\n"
            b"content-length: %d\r\n\r\n%b"
        ) % (
            endpoint.method,
            backend.base_path,
            endpoint.target,
            backend.authority,
            backend.authorization,
            self.fields,
            self.request_id.encode(),
            len(body),
            short,
        )
        return written, long
