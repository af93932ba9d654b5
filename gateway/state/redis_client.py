"""Clients for the URLs of Redis and Valkey: one server, with TLS, behind Sentinels, or a cluster."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from gateway.state.store import StateError, UnusableState

TIMEOUT: Final = 1.0
"""Seconds for a connection, and for an answer: what is saved waits, and no request does."""
MOST_SECONDS: Final = 4.0
"""The same for a server that takes longer: less than a lease lasts."""
PREFIX: Final = "tidegate"
_SCHEMES: Final = {
    "redis": "redis",
    "valkey": "redis",
    "rediss": "rediss",
    "valkeys": "rediss",
    "redis+sentinel": "redis",
    "valkey+sentinel": "redis",
    "rediss+sentinel": "rediss",
    "valkeys+sentinel": "rediss",
    "redis+cluster": "redis",
    "valkey+cluster": "redis",
    "rediss+cluster": "rediss",
    "valkeys+cluster": "rediss",
    "redis+unix": "unix",
    "valkey+unix": "unix",
}
_SENTINEL_PORT: Final = 26379
_OPTIONS: Final = frozenset(
    (
        "client_name",
        "db",
        "health_check_interval",
        "max_connections",
        "password",
        "protocol",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_timeout",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
        "ssl_password",
        "username",
    )
)
"""What may stand behind the `?`, besides the prefix. The client would fail at its first connection with any other."""


def is_redis(url: str) -> bool:
    """Whether a URL names a server of this kind, and where it is."""
    scheme, _, rest = url.partition("://")
    return scheme in _SCHEMES and bool(rest.partition("?")[0])


def redacted(url: str) -> str:
    """Return a URL without its password and options; one that cannot be read too, since errors show it."""
    scheme, _, rest = url.partition("://")
    credentials, _, place = rest.partition("?")[0].rpartition("@")
    user = credentials.partition(":")[0]
    return f"{scheme}://{f'{user}@' if user else ''}{place}"


def connect(url: str, seconds: float = TIMEOUT) -> tuple[Any, str]:
    """Return a client, whose answers may take so many `seconds`, and the prefix of its keys; raises StateError.

    It connects when it is first used, but for that of a cluster, which asks at once where its nodes are.
    """
    import redis  # noqa: PLC0415 - takes a tenth of a second, and only those pay it who use it
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    options: dict[str, Any] = {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        # A batch is sent again with the next flush, under another number.
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        "encoding_errors": "replace",
    }
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        prefix = query.pop("prefix", PREFIX)
        _check(parts, query)
        plain = f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path}?{urlencode(query)}"
        if not prefix or set(prefix) & set("{} \t\n"):
            raise ValueError("a prefix has no braces or spaces")
        if parts.scheme.endswith("+cluster"):
            return redis.RedisCluster.from_url(plain, **options), prefix
        if parts.scheme.endswith("+sentinel"):
            return _behind_sentinels(plain, options), prefix
        return redis.Redis.from_url(plain, **options), prefix
    except redis.RedisError as error:
        raise StateError(f"{redacted(url)} cannot be reached: {error}") from None
    except (ValueError, TypeError) as error:
        raise UnusableState(f"`{redacted(url)}` is no URL of Redis: {error}") from None


def _check(parts: SplitResult, query: Mapping[str, str]) -> None:
    """Raise ValueError for what the client would ignore, or fail with at its first connection.

    The words hold nothing of the place and the path: these are parts of a password that has a slash in it.
    """
    scheme, _, way = parts.scheme.partition("+")
    path = parts.path.strip("/")
    if not way or way == "cluster":
        try:
            has_host = parts.port is None or parts.hostname is not None
        except ValueError:
            has_host = False
        if not has_host:
            raise ValueError("write HOST:PORT; in a password, write / as %2F, # as %23, ? as %3F and @ as %40")
    database = path.partition("/")[2] if way == "sentinel" else path
    if way != "unix" and database and not (database.isascii() and database.isdecimal()):
        raise ValueError("the path ends with the number of a database, such as /0")
    for name in query:
        if name not in _OPTIONS:
            raise ValueError(f"`{name}` is not an option; known options: {', '.join(sorted((*_OPTIONS, 'prefix')))}")
        if name.startswith("ssl_") and _SCHEMES[parts.scheme] != "rediss":
            secure = f"{scheme}s{way and f'+{way}'}"
            raise ValueError(f"`{name}` needs TLS" + (f": begin with {secure}://" if secure in _SCHEMES else ""))


def _behind_sentinels(url: str, options: dict[str, Any]) -> Any:
    """Return a client of whichever server the Sentinels say is the primary: `//host,host:port/name/0`."""
    from redis.sentinel import Sentinel  # noqa: PLC0415

    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    name, _, database = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError("name the primary: redis+sentinel://HOST:26379,HOST:26379/NAME/0")
    found = [_address(each) for each in hosts.split(",")]
    more: dict[str, Any] = dict(parse_qsl(parts.query))
    if parts.scheme == "rediss":
        more["ssl"] = True
    timeouts = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout")}
    make: Any = Sentinel  # has no types
    sentinel = make(found, sentinel_kwargs=timeouts | more, **options, **more)
    login = {"username": unquote(user) or None, "password": unquote(password) or None}
    return sentinel.master_for(name, db=int(database or 0), **login)


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if separator and port.isdigit() else (text.strip("[]"), _SENTINEL_PORT)
