"""What the gateway trusts as it connects to engines."""

import ssl
from functools import cache


@cache
def system_roots() -> ssl.SSLContext:
    """Return a context that trusts the roots of the system, for requests and control calls alike.

    Loaded once, since that takes 20 ms and a megabyte.
    """
    return ssl.create_default_context()
