"""`python -m loadtest.upgrades.metrics`: fails when counts at /metrics fall, or replicas do not add up.

First a gateway with workers serves wrk while 50 workers are killed and it is upgraded 10 times: no count may fall, and
all requests must be counted but those of the seconds before each kill. Then three gateways with two workers each answer
a known number of requests: their `tidegate_requests_total` must add up to that.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from loadtest.upgrades.disturbed import CONNECTIONS, Disturbed, mixed
from loadtest.upgrades.gateway import Gateway, engine

REPORTED_WITHIN = 5.0
"""Seconds of a killed worker's counts that may be missing (docs/workers.md)."""
_BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2})
_HEADERS = {"content-type": "application/json"}
_CLIENTS = 4


def main() -> int:
    """Return 1 when a count fell, or a sum is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--upgrades", type=int, default=10)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds after a kill")
    parser.add_argument("--drain", type=float, default=20.0, help="seconds of --drain-timeout")
    parser.add_argument("--seconds", type=int, default=20, help="how long wrk runs before it takes other connections")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument(
        "--requests", type=int, default=5_000, help="how many the last replica answers, the others more"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, engine() as backend:
        options: dict[str, object] = {"drain-timeout": asked.drain, "workers": 2}
        is_monotone = _disturbed(Path(name), backend, options, asked)
        adds_up = _replicas(Path(name), backend, options, asked.replicas, asked.requests)
    return int(not (is_monotone and adds_up))


def _disturbed(folder: Path, backend: int, options: dict[str, object], asked: argparse.Namespace) -> bool:
    """Return whether no count fell, and only what may be missing is."""
    gateway = Gateway(folder / "disturbed", backend, options)
    turns = mixed(gateway, asked.kills, asked.upgrades, asked.pause)
    played = Disturbed(gateway, folder, turns, seconds=asked.seconds)
    try:
        gateway.until_serving()
        played.play(lambda so_far: so_far.is_quiet)
        counted = requests_in([gateway.ask("/metrics")])
    finally:
        gateway.stop()
    print(f"{played.scrapes} scrapes; counts that fell: {played.counts.falls or 'none'}")
    kills = played.done.get("kills", 0)
    # wrk counts no request that is open when it ends, and the gateway counts it.
    most = played.total.requests + played.total.lost + CONNECTIONS * played.windows
    least = played.total.requests - kills * REPORTED_WITHIN * played.fastest
    print(f"{counted:,.0f} requests are counted, of {played.total.requests:,}; {least:,.0f} to {most:,.0f} are right")
    print("\n".join(played.errors) or f"{played}: no error")
    return least <= counted <= most and not played.counts.falls and not played.errors


def _replicas(folder: Path, backend: int, options: dict[str, object], count: int, requests: int) -> bool:
    """Return whether what so many replicas say adds up to what their clients got."""
    with ExitStack() as stack:
        gateways = []
        for number in range(count):
            gateways.append(Gateway(folder / f"replica-{number}", backend, options))
            stack.callback(gateways[-1].stop)
        for each in gateways:
            each.until_serving()
        with ThreadPoolExecutor(count * _CLIENTS) as pool:
            share = max(1, requests // _CLIENTS)
            ports = [each.port for each in gateways for _ in range(_CLIENTS)]
            numbers = [share * (count - at) for at in range(count) for _ in range(_CLIENTS)]
            got = sum(pool.map(answered, ports, numbers))
        counted = [requests_in([each.ask("/metrics")]) for each in gateways]
    print(f"{count} replicas count {' + '.join(f'{each:.0f}' for each in counted)} = {sum(counted):.0f} of {got}")
    return sum(counted) == got


def answered(port: int, requests: int) -> int:
    """Send so many requests on one connection, and return how many got 200."""
    connection, good = HTTPConnection("127.0.0.1", port, timeout=60), 0
    for _ in range(requests):
        connection.request("POST", "/v1/chat/completions", _BODY, _HEADERS)
        answer = connection.getresponse()
        answer.read()
        good += answer.status == 200
    connection.close()
    return good


def requests_in(scrapes: Iterable[str]) -> float:
    """Return the requests that scrapes count together."""
    return sum(
        sample.value
        for text in scrapes
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "tidegate_requests_total"
    )


if __name__ == "__main__":
    sys.exit(main())
