"""Putting the gateway's own answers on a client's connection."""

from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.proxy import anthropic
from gateway.proxy.answers import chunk, error_event, error_head
from gateway.proxy.around import Around
from gateway.proxy.routed_request import RoutedRequest
from gateway.wire.heads import status_line
from gateway.wire.service import Writer


class Bodiless(Around):
    """A client that wants the head of an answer alone (RFC 9110 section 9.3.2)."""

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Write the head of a whole answer."""
        close = b"" if self.keep_alive else b"connection: close\r\n"
        self.write(b"%b%b%bcontent-length: %d\r\n\r\n" % (status_line(status), head, close, len(body)))


def tell(client: Writer, exchange: Exchange, error: GatewayError, routed: RoutedRequest) -> None:
    """Tell a client of an error by a status, or within a stream whose head it has."""
    if exchange.opened:
        break_off(client, exchange, error, routed)
    else:
        answer(client, exchange, error, routed)


def answer(client: Writer, exchange: Exchange, error: GatewayError, routed: RoutedRequest) -> None:
    """Answer with an error, and with what the tenant has left."""
    exchange.client_status = error.status
    head = error_head(error, exchange.request_id)
    attempts = b"x-gateway-attempts: %d\r\n" % len(exchange.attempts) if routed.spec.shows_labels else b""
    body = anthropic.body(error, exchange.endpoint, exchange.request_id)
    client.reply_json(error.status, head + routed.quota_shown + attempts, body)


def pass_refusal(client: Writer, exchange: Exchange, status: int, head: bytes, body: bytes) -> None:
    """Pass an engine's error answer on."""
    exchange.client_status = status
    if anthropic.speaks(exchange.endpoint):
        head, body = anthropic.passed_on(status, head, body, exchange.request_id)
    client.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))


def break_off(client: Writer, exchange: Exchange, error: GatewayError, routed: RoutedRequest) -> None:
    """End an answer that has begun: one error event between two events of a stream, and no proper end."""
    if exchange.stream:
        event = error_event(error, routed.spec.endpoint.dialect, exchange.request_id)
        client.write(event if routed.spec.http10 else chunk(event))
    client.break_off()
