"""Where state is stored: `sqlite:///path/to/file`, `redis://host:6379/0`, or `memory://` for nowhere."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from gateway.state.redis_client import is_redis
from gateway.state.redis_quotas import RedisQuotas
from gateway.state.redis_store import RedisStore
from gateway.state.sqlite import SqliteStore
from gateway.state.store import MemoryStore, Saved, StateError, Store, UnusableState

_log = logging.getLogger(__name__)
_SQLITE = "sqlite:///"
_FILE = "state.sqlite"


def open_store(url: str) -> Store:
    """Return the store that a URL names; raises StateError, also when it cannot be opened.

    `sqlite:///state.sqlite` is relative to the working directory, `sqlite:////var/lib/x` begins at the root, as in
    SQLAlchemy.
    """
    if url == "memory://":
        return MemoryStore()
    if is_redis(url):
        return RedisStore(url)
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return SqliteStore(Path(url.removeprefix(_SQLITE)))
    raise StateError(
        f"`{url}` is not a state URL: write sqlite:///path/to/file, or memory:// to save nothing, "
        "or redis://host:6379/0 to share it between machines"
    )


def opened(url: str | None, environ: Mapping[str, str] = os.environ) -> Store:
    """Return the store that was asked for; raises StateError.

    None is the default one. Where that cannot be used it was not asked for, so the process warns and goes on without.
    """
    if url is not None:
        return open_store(url)
    try:
        return open_store(default_url(environ))
    except StateError as error:
        _log.error("state is lost when this process ends: name a file with --state", extra={"reason": str(error)})
        return MemoryStore()


def shared_quotas(url: str | None) -> RedisQuotas | None:
    """Return where gateways on several machines share quotas; None for state that is on one machine."""
    return RedisQuotas(url) if url is not None and is_redis(url) else None


def loaded(store: Store, now: float) -> Saved:
    """Return what was stored; raises StateError.

    A server that does not answer now may do so later: the process begins without what it has.
    """
    try:
        return store.load(now)
    except UnusableState:
        raise
    except StateError as error:
        if not store.remote:
            raise
        _log.error("state cannot be read: starting without it", extra={"reason": str(error)})
        return Saved()


def default_url(environ: Mapping[str, str]) -> str:
    """Return where state is stored unless somebody says otherwise: what systemd gives, else the user's own folder."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return f"{_SQLITE}{Path(given) / _FILE}"
    home = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "/")) / ".local" / "state")
    return f"{_SQLITE}{Path(home) / 'tidegate' / _FILE}"
