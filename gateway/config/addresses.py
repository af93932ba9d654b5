"""The base URL of an engine, as route files write it; and what every other URL must be, too."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from gateway.config.problems import InvalidValueError

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_NETLOC = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]*)(?::[0-9]*)?")
_LABEL = r"[a-z0-9_][a-z0-9_-]{0,62}"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")
_LOOKS_LIKE_IPV4 = re.compile(r"[0-9.]+")
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~%!$&'()*+,;=:@-]+)*")
_API_PATH = re.compile(r"/v1(?:/(?:chat/)?(?:completions|embeddings|responses|messages|models|rerank|score))?$")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MARKS = frozenset(":/@?")
_EXAMPLE = "write it as `http://host:8000`"

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
PATTERN = r"^https?://[^/?#@\s]+[^?#@\s]*$"


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine listens. `host` is lower case and without brackets; `base_path` is empty or begins with `/`."""

    scheme: str
    host: str
    port: int
    base_path: str

    @property
    def url(self) -> str:
        """The one spelling of this address, always with its port and never with a trailing slash."""
        return f"{self.scheme}://{authority(self.host, self.port)}{self.base_path}"


def authority(host: str, port: int) -> str:
    """Return a host without brackets and its port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host, in lower case and without brackets, is `localhost` or an address of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_address(value: object) -> Address:
    """Parse an http or https URL without user, query or fragment (RFC 3986). Raises InvalidValueError."""
    parts, text = _split(value, _EXAMPLE)
    if "@" in parts.netloc:
        raise InvalidValueError("contains a user or password", "use `api_key: ${NAME}` or `api_key_file`")
    if "?" in text or "#" in text:
        raise InvalidValueError("has a query or a fragment", "end the URL before `?` and `#`")
    host, port = _server(parts, _EXAMPLE)
    return Address(parts.scheme, host, port, _base_path(parts.path))


def looks_like_url(text: str) -> bool:
    """Whether a text is most likely meant as a URL, well written or not: it may hold a secret then."""
    return not _MARKS.isdisjoint(text)


def check_url(value: object, example: str) -> str:
    """Return an absolute http or https URL as it is, with any user, path and query.

    Raises InvalidValueError with `example` as its hint, for what no request can be sent to.
    """
    parts, text = _split(value, example)
    _server(parts, example)
    return text


def _split(value: object, example: str) -> tuple[SplitResult, str]:
    if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
        raise InvalidValueError("is not a URL", example)
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise InvalidValueError("is not a URL", "the port is a number up to 65535; put an IPv6 host in []") from None
    if parts.scheme not in _DEFAULT_PORTS or not value[len(parts.scheme) :].startswith("://"):
        raise InvalidValueError("does not begin with http:// or https://", example)
    return parts, value


def _server(parts: SplitResult, example: str) -> tuple[str, int]:
    """Return the host, in lower case and without brackets, and the port that a URL names."""
    netloc = parts.netloc.rpartition("@")[2]
    if not _NETLOC.fullmatch(netloc):
        raise InvalidValueError("is not a URL", "put an IPv6 host in []: `http://[::1]:8000`")
    if parts.port == 0 or netloc.endswith(":"):
        raise InvalidValueError("has no usable port", "write a port from 1 to 65535, or leave out the `:`")
    host = _host(parts.hostname or "", example, bracketed="[" in netloc)
    return host, parts.port or _DEFAULT_PORTS[parts.scheme]


def parse_name(value: object) -> str:
    """Parse a name of DNS, in lower case; a dot at its end is kept, since it says that nothing is to be added."""
    name = value.lower() if isinstance(value, str) else ""
    example = "write a name such as `vllm.serving.svc`; the port has a key of its own"
    if not _HOST.fullmatch(name):
        raise InvalidValueError("is not a name of DNS", example)
    if _LOOKS_LIKE_IPV4.fullmatch(name):
        raise InvalidValueError("is an address, not a name of DNS", "write `http://{shown}:8000` instead")
    return name


def parse_name_server(text: str) -> tuple[str, int]:
    """Parse the address of a name server, `10.0.0.2` or `10.0.0.2:5353`. Raises ValueError."""
    host, _, port = text.rpartition(":") if re.fullmatch(r"\[.+\]:\d+|[\d.]+:\d+", text) else (text, "", "53")
    if not 0 < int(port) <= 65535:
        raise ValueError(f"`{port}` is not a port")
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port)
    except ValueError:
        words = "is not the IP address of a name server: write it as 10.0.0.2, 10.0.0.2:8600 or [2001:db8::1]:53"
        raise ValueError(f"`{text}` {words}") from None


def _host(host: str, example: str, *, bracketed: bool) -> str:
    if not host:
        raise InvalidValueError("has no host", example)
    try:
        if bracketed:
            return str(ipaddress.IPv6Address(host))
        if _LOOKS_LIKE_IPV4.fullmatch(host):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise InvalidValueError("has a host that is not an IP address", "check the numbers of the address") from None
    if not _HOST.fullmatch(host):
        raise InvalidValueError(
            "has a host that is not a valid name", "use letters, digits, `-`, `_` and `.`; put IPv6 in []"
        )
    return host


def _base_path(path: str) -> str:
    stripped = path.removesuffix("/")
    if _API_PATH.search(stripped):
        raise InvalidValueError("ends in the API's own path", "leave out `/v1`: the gateway appends it")
    if not _PATH.fullmatch(stripped):
        raise InvalidValueError(
            "has a path that cannot be a prefix", "use no empty, `.` or `..` parts: `http://host/engine`"
        )
    return stripped
