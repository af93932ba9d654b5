"""What the access log says of one request, as a line of JSON."""

from time import gmtime, strftime
from typing import Final

import msgspec

from gateway.exchange import Exchange

_OTHER: Final = "other"
_LONGEST_ASKED: Final = 64
_MOST_KNOWN: Final = 1024
_encode: Final = msgspec.json.Encoder().encode
_COST_DIGITS: Final = 9
_USUAL_TICKS: Final = 1000
_TICKS: Final[list[bytes]] = [_encode(tick / 10_000) for tick in range(_USUAL_TICKS)]
"""Times of up to 0.1 s in JSON, in tenths of a millisecond."""


class Timestamps:
    """Times in ISO 8601: the date is made once a second, the rest once a millisecond, which many lines share."""

    __slots__ = ("_date", "_millisecond", "_second", "_text")

    def __init__(self) -> None:
        self._millisecond = self._second = -1
        self._date, self._text = "", b""

    def at(self, now: float) -> bytes:
        """Return a time given in seconds since the epoch."""
        millisecond = int(now * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second = millisecond // 1000
            if second != self._second:
                self._second = second
                self._date = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
            self._text = f"{self._date}.{str(1000 + millisecond % 1000)[1:]}Z".encode()
        return self._text


class AccessLines:
    """Writes lines; what they say before and behind the first two durations is kept for the next ones like them.

    Seconds are to a tenth of a millisecond, and absent where there was none.
    """

    __slots__ = ("_known", "_stamps")

    def __init__(self) -> None:
        self._stamps = Timestamps()
        self._known: dict[tuple[str, str, str, int, str, str, str, str, str, int, bool], tuple[bytes, bytes]] = {}

    def __repr__(self) -> str:
        return f"<AccessLines of {len(self._known)} kinds>"

    def line(self, exchange: Exchange, offset: float) -> bytes:
        """Return the line of a request that has settled; `offset` is from its clock to seconds since the epoch."""
        before, after = self._common(exchange)
        return b'{"time":"%b","request_id":"%b"%b%b,"overhead":%b%b%b%b}' % (
            self._stamps.at(exchange.ended + offset),
            exchange.request_id.encode(),  # of characters that stand for themselves, whoever made it
            before,
            _seconds(exchange.ended - exchange.received),
            _seconds(exchange.overhead),
            after,
            _timing(exchange) if exchange.stream or exchange.queued else b"",
            _rest(exchange),
        )

    def _common(self, exchange: Exchange) -> tuple[bytes, bytes]:
        """Return what stands before the durations and behind them."""
        model, endpoint = exchange.model, exchange.endpoint
        if endpoint == _OTHER:
            endpoint = _asked(exchange)
        elif model == _OTHER:
            model = _asked(exchange)
        kind = (
            model,
            endpoint,
            exchange.outcome,
            exchange.client_status,
            exchange.service_class,
            exchange.tenant,
            exchange.version,
            exchange.pool,
            exchange.backend,
            len(exchange.attempts),
            exchange.stream,
        )
        common = self._known.get(kind)
        if common is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            before = b',"model":%b,"endpoint":%b,"outcome":%b,"status":%d,"e2e":' % (
                _encode(model),
                _encode(endpoint),
                _encode(exchange.outcome.value),
                exchange.client_status,
            )
            common = self._known[kind] = before, _behind(exchange)
        return common


def _behind(exchange: Exchange) -> bytes:
    """Return the fields behind the durations that many requests have in common; those that say nothing are absent."""
    fields = (
        (b"class", exchange.service_class),
        (b"tenant", exchange.tenant),
        (b"version", exchange.version),
        (b"pool", exchange.pool),
        (b"backend", exchange.backend),
        (b"attempts", len(exchange.attempts)),
        (b"stream", exchange.stream),
    )
    return b"".join([b',"%b":%b' % (name, _encode(value)) for name, value in fields if value])


def _timing(exchange: Exchange) -> bytes:
    ttft, tpot = exchange.ttft, exchange.tpot
    return b"%b%b%b" % (
        b"" if ttft is None else b',"ttft":%b' % _seconds(ttft),
        b"" if tpot is None else b',"tpot":%b' % _seconds(tpot),
        b',"queue":%b' % _seconds(exchange.queued) if exchange.queued else b"",
    )


def _rest(exchange: Exchange) -> bytes:
    tokens_in, tokens_out, routing = exchange.prompt_tokens, exchange.output_tokens, str(exchange.routing)
    cost = 0.0
    for attempt in exchange.attempts:
        cost += attempt.cost
    return b"%b%b%b%b%b" % (
        b"" if tokens_in is None else b',"tokens_in":%d' % tokens_in,
        b"" if tokens_out is None else b',"tokens_out":%d' % tokens_out,
        b',"cost":%b' % _encode(round(cost, _COST_DIGITS)) if cost else b"",
        b',"reason":%b' % _encode(exchange.reason) if exchange.reason else b"",
        b',"routing":%b' % _encode(routing) if routing else b"",
    )


def _asked(exchange: Exchange) -> str:
    """Return what a client asked for that is not served, short and without control characters."""
    text = exchange.asked[:_LONGEST_ASKED]
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text) or _OTHER


def _seconds(value: float) -> bytes:
    ticks = int(value * 10_000 + 0.5)
    return _TICKS[ticks] if 0 <= ticks < _USUAL_TICKS else _encode(ticks / 10_000)
