"""The page of the gateway's own errors, from the tree of them."""

from collections.abc import Iterator

from gateway import errors
from gateway.errors import ClientError, GatewayError
from tests.docs.reference.markdown import WRITTEN, join, table, text

ABOUT = """
Errors that the gateway answers itself are JSON in OpenAI's shape, and in Anthropic's on `/v1/messages`:

```json
{
  "error": {
    "message": "the model `llama` does not exist",
    "type": "invalid_request_error",
    "param": "model",
    "code": "model_not_found"
  }
}
```

`message` is for people and may change. Programs should look at the status and at `code`. Every answer has an
`x-request-id`, and answers with 429 or 503 say in `Retry-After` how many seconds to wait. Once a stream has begun, its
status can no longer change: the error comes as one event `data: {"error": ...}`, and the stream ends without `[DONE]`.

Errors of engines are passed on as they are, unless another attempt succeeds. [What happens when](operations.md) says
which failures are retried, and which count against the objective of a model.
"""


def page() -> str:
    """Return the page."""
    return join(
        [
            "# Errors",
            WRITTEN,
            ABOUT,
            "## Causes that lie with the client",
            "They do not count against the availability of a model.",
            _errors(client=True),
            "## Causes that lie with the gateway or the engines",
            _errors(client=False),
        ]
    )


def _errors(*, client: bool) -> str:
    found = [each for each in leaves(GatewayError) if issubclass(each, ClientError) == client]
    return table(
        ("status", "`code`", "`type`", "when"),
        (
            (str(each.status), f"`{each.code}`", f"`{each.type}`", text(each.__doc__))
            for each in sorted(found, key=lambda each: (each.status, each.code))
        ),
    )


def leaves(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """Yield the errors of the tree that are answered."""
    abstract = {GatewayError, ClientError, errors.Unavailable}
    if kind not in abstract:
        yield kind
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from leaves(each)
