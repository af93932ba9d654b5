"""Which engine keeps which response: one that is stored lives in the memory of the engine that made it, and no other.

This is known of the latest responses that passed here, before a restart too where state is kept, not of another
gateway's. Such a response is asked for only where no other tenant can have made it: whose it is cannot be told.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from gateway.backends.backend import Backend
from gateway.errors import InvalidRequest, NotFound
from gateway.exchange import Exchange
from gateway.proxy.live import LiveModel, LiveTable
from gateway.proxy.live_version import LiveVersion
from gateway.proxy.naming import Namer, Renaming
from gateway.proxy.tenants import LiveTenant, Tenants

MOST: Final = 10_000
LIFETIME: Final = 24 * 3600.0
"""How many responses are known, and for how many seconds each."""
_BEGINNING: Final = re.compile(rb'\s*+\{\s*+"id"\s*+:\s*+"([^"\\]{1,128})"')


class Made(NamedTuple):
    """By which backend a response was made, for whom and when (seconds); `asked` is the model's name in its answer."""

    backend: str
    model: str
    version: str
    tenant: str
    asked: bytes | None
    at: float


class Keeper(NamedTuple):
    """A backend that keeps a response, or may keep it, and what it is of."""

    model: LiveModel
    version: LiveVersion
    backend: Backend
    asked: bytes | None = None

    def takes_work(self, version: bytes | None) -> bool:
        """Whether new requests may go there; `version` is the one that the client wants, if it wants one."""
        is_away = self.backend.drained or self.backend.leaving
        if is_away or (version is not None and version.decode("latin-1") != self.version.name):
            return False
        return self.model.traffic.reaches(self.version)


class StoredResponses:
    """The latest responses, by id."""

    def __init__(self) -> None:
        self._made: OrderedDict[str, Made] = OrderedDict()
        self._making: dict[str, tuple[str, int]] = {}
        self._before: dict[str, Made] = {}
        self._unsaved: deque[tuple[str, Made]] = deque(maxlen=MOST)

    def __repr__(self) -> str:
        return f"<StoredResponses {len(self._made)}>"

    def note(self, response: str, made: Made) -> None:
        """Learn that a response was made. Where clients name their own, a name is its first tenant's."""
        if self._is_anothers(response, made.tenant, made.at):
            return
        self._made[response] = made
        self._made.move_to_end(response)
        if len(self._made) > MOST:
            self._made.popitem(last=False)
        self._unsaved.append((response, made))

    def name(self, given: bytes, tenant: str, now: float, *, keeps: bool = True) -> str | None:
        """Return the name, given in JSON, that a client wants for its response; None for what is no name.

        Raises InvalidRequest where another tenant's response has it, or one that is being made: the engine would put
        one in place of the other. One that the engine does not keep (`keeps`) takes the place of none that is made.
        """
        try:
            response = msgspec.json.decode(given, type=str)
        except (msgspec.MsgspecError, UnicodeError):
            return None
        making = self._making.get(response)
        kept = keeps and self._is_anothers(response, tenant, now)
        if kept or (making is not None and making[0] != tenant):
            raise InvalidRequest("a response of this name exists: choose another request_id", param="request_id")
        return response

    def begin(self, response: str, tenant: str) -> "ClaimedName":
        """Keep a name for a tenant until the request ends: that the response has it shows when its answer begins."""
        _, requests = self._making.get(response, (tenant, 0))
        self._making[response] = tenant, requests + 1
        return ClaimedName(self, response)

    def end(self, response: str) -> None:
        """Learn that a request for a response of this name has ended."""
        tenant, requests = self._making.pop(response)
        if requests > 1:
            self._making[response] = tenant, requests - 1

    def restore(self, kept: Iterable[tuple[str, Made]]) -> None:
        """Take back what was kept over a restart, by digests of ids."""
        self._before = dict(kept)

    def unsaved(self) -> list[tuple[str, Made]]:
        """Return what was noted since the last call, by digests of ids: who can read them cannot ask for a response."""
        unsaved, self._unsaved = self._unsaved, deque(maxlen=MOST)
        return [(_digest(response), made) for response, made in unsaved]

    def find(self, response: str, tenant: str, now: float) -> Made | None:
        """Return where a response was made, None where that is not known; raises NotFound for another tenant's."""
        made = self._known(response)
        if made is None or now - made.at > LIFETIME:
            return None
        if made.tenant != tenant:
            raise no_response(response)
        return made

    def _is_anothers(self, response: str, tenant: str, now: float) -> bool:
        made = self._known(response)
        return made is not None and made.tenant != tenant and now - made.at <= LIFETIME

    def _known(self, response: str) -> Made | None:
        made = self._made.get(response)
        return self._before.get(_digest(response)) if made is None and self._before else made


class ClaimedName:
    """A name that a client gave the response which is being made for it."""

    __slots__ = ("_response", "_stored")

    def __init__(self, stored: StoredResponses, response: str) -> None:
        self._stored = stored
        self._response = response

    def end(self) -> None:
        """Let go of the name; a response that was made has it by now."""
        self._stored.end(self._response)


class Noting:
    """Reads the id of a response when its answer begins, and gives the model the name that was asked for."""

    __slots__ = ("_asked", "_exchange", "_naming", "_stored")

    def __init__(self, stored: StoredResponses, exchange: Exchange, naming: Namer | None, asked: bytes | None) -> None:
        self._stored = stored
        self._exchange = exchange
        self._naming = naming
        self._asked = asked

    def renaming(self, beginning: bytes) -> Renaming | None:
        """Note the response; return what has to be replaced in its answer."""
        exchange = self._exchange
        response = _in_events(beginning) if exchange.stream else _in_document(beginning)
        if response is not None:
            made = Made(
                exchange.backend, exchange.model, exchange.version, exchange.tenant, self._asked, exchange.received
            )
            self._stored.note(response, made)
        return self._naming.renaming(beginning) if self._naming is not None else None


def _digest(response: str) -> str:
    return sha256(response.encode(errors="surrogatepass")).hexdigest()[:32]


def no_response(response: str) -> NotFound:
    """Return what to say of a response that is not there, in vLLM's words."""
    return NotFound(f"Response with id '{response[:128]}' not found.", param="response_id")


def keeper(table: LiveTable, tenant: LiveTenant, made: Made) -> Keeper | None:
    """Return who keeps a response; None where routes, or what the tenant may use, have changed."""
    for model in table:
        if model.name == made.model and tenant.allows(model.name) and made.version in model.versions:
            version = model.versions[made.version]
            for backend in version.backends:
                if backend.id == made.backend:
                    return Keeper(model, version, backend, made.asked)
    return None


def candidates(table: LiveTable, tenants: Tenants, tenant: LiveTenant) -> list[Keeper]:
    """Return the backends that may keep an unknown response of a tenant, and no other tenant's."""
    others = [each for each in tenants if each.name != tenant.name]
    shared = {
        backend for model in table if any(each.allows(model.name) for each in others) for backend in _backends(model)
    }
    found: dict[Backend, Keeper] = {}
    for model in table:
        if tenant.allows(model.name):
            for version in model.versions.values():
                for backend in version.backends:
                    if backend not in shared:
                        found.setdefault(backend, Keeper(model, version, backend, msgspec.json.encode(model.name)))
    return list(found.values())


def _backends(model: LiveModel) -> Iterator[Backend]:
    versions: Iterable[LiveVersion] = model.versions.values()
    return (backend for version in versions for backend in version.backends)


class _Response(msgspec.Struct):
    id: str


class _Event(msgspec.Struct):
    response: _Response


_decode_response: Final = msgspec.json.Decoder(_Response).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode


def _in_document(beginning: bytes) -> str | None:
    """Return the id of a response; of a long one there is only the beginning."""
    match = _BEGINNING.match(beginning)
    try:
        return match[1].decode() if match is not None else _decode_response(beginning).id
    except (ValueError, RecursionError):
        return None


def _in_events(beginning: bytes) -> str | None:
    """Return the id in the first event, `response.created`."""
    at = beginning.find(b"data:")
    try:
        return _decode_event(beginning[at + 5 : beginning.find(b"\n", at)]).response.id if at >= 0 else None
    except (ValueError, RecursionError):
        return None
