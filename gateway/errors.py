"""Every answer that the gateway gives instead of a backend: one tree, one shape (OpenAI's), one place."""

from typing import Any, ClassVar


class GatewayError(Exception):
    """An answer with a status, an OpenAI `type` and a `code`; `retry_after` in whole seconds where waiting helps."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    retry_after: int | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if retry_after is not None:
            self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """Return the JSON object that a client reads."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


class ClientError(GatewayError):
    """The client's doing: not counted against anybody's availability."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidRequest(ClientError):
    """The request is well-formed HTTP but not what the endpoint takes."""


class InvalidJson(ClientError):
    """The body is not JSON."""

    code = "invalid_json"


class BadHttp(ClientError):
    """The bytes break a rule of HTTP that a gateway must hold (RFC 9112)."""

    code = "bad_http"


class InvalidApiKey(ClientError):
    """No key where one is needed, or one that no tenant was given."""

    status = 401
    code = "invalid_api_key"


class ModelNotAllowed(ClientError):
    """The tenant may not use this model."""

    status = 403
    code = "model_not_allowed"


class RateLimited(ClientError):
    """The tenant has used up what it may use."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class NotFound(ClientError):
    """No such path."""

    status = 404
    code = "not_found"


class ModelNotFound(ClientError):
    """No such model or alias in the routes."""

    status = 404
    code = "model_not_found"


class MethodNotAllowed(ClientError):
    """The path exists, with other methods: those of `allow`."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, param: str | None = None, allow: str = "GET, HEAD") -> None:
        super().__init__(message, param=param)
        self.allow = allow


class RequestTimeout(ClientError):
    """The client took too long to send its request."""

    status = 408
    code = "request_timeout"


class RequestTooLarge(ClientError):
    """The body is over the limit."""

    status = 413
    code = "request_too_large"


class TargetTooLong(ClientError):
    """The request target is over the limit."""

    status = 414
    code = "target_too_long"


class UnsupportedMediaType(ClientError):
    """The body has a content type or a content coding that is not taken."""

    status = 415
    code = "unsupported_media_type"


class ExpectationFailed(ClientError):
    """An `Expect` other than 100-continue (RFC 9110 section 10.1.1)."""

    status = 417
    code = "expectation_failed"


class LoopDetected(ClientError):
    """A request that this gateway has sent on itself, or that too many gateways have (RFC 5842 section 7.2)."""

    status = 508
    code = "loop_detected"


class HeadersTooLarge(ClientError):
    """The head is over the limit in bytes or in fields."""

    status = 431
    code = "headers_too_large"


class NotSupported(ClientError):
    """A method or transfer coding that the gateway does not speak (RFC 9110 section 15.6.2)."""

    status = 501
    code = "not_supported"


class BackendFailed(GatewayError):
    """Attempts are exhausted; the message says what the last one did."""

    status = 502
    type = "backend_error"
    code = "backend_error"


class Unavailable(GatewayError):
    """No backend can take the request now; waiting helps."""

    status = 503
    type = "service_unavailable"
    code = "overloaded"
    retry_after = 1


class Overloaded(Unavailable):
    """The request would wait too long, so it is turned away now."""


class Shed(Overloaded):
    """The request would wait too long, and its class is sheddable."""

    status = 429
    type = "rate_limit_error"


class NoReadyBackend(Unavailable):
    """No backend of the model is ready."""

    code = "no_ready_backend"


class Draining(Unavailable):
    """This process is about to stop."""

    code = "draining"


class TimedOut(GatewayError):
    """The request's time ran out before it was answered."""

    status = 504
    type = "timeout"
    code = "deadline_exceeded"


class FirstTokenTimeout(TimedOut):
    """No backend began to answer in time."""

    code = "first_token_timeout"


class AnswerTooLarge(GatewayError):
    """An answer is over a limit of the gateway's own: no backend's fault, and no other would do better."""

    status = 502
    code = "answer_too_large"


class StreamBroken(GatewayError):
    """A stream that had begun could not be finished. Clients see it as an event, since the status was sent before."""

    status = 502
    type = "backend_error"
    code = "stream_broken"
