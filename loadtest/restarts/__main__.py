"""`python -m loadtest.restarts`: fails when a request is lost while two gateways restart in turn.

The clients are Python's own `http.client`: each keeps one connection, knows both addresses, goes to the other when a
connect is refused, and repeats nothing else. With `--haproxy` they go through one.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}).encode()
FIELDS = {"content-type": "application/json"}
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  retries 3
  option redispatch
frontend in
  bind 127.0.0.1:{port}
  default_backend gateways
backend gateways
  option httpchk GET /ready
  default-server inter 100ms fall 1 rise 1
  server a 127.0.0.1:{a} check
  server b 127.0.0.1:{b} check
"""


def free() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


def answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def await_answer(port: int, path: str) -> None:
    deadline = time.monotonic() + 60
    while not answers(port, path):
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing answers on port {port}")
        time.sleep(0.02)


def serve(routes: Path, port: int) -> subprocess.Popen[bytes]:
    arguments = ("serve", str(routes), "--port", str(port), "--admin-port", "0", "--state", "memory://")
    quiet = ("--no-access-log", "--log-level", "error", "--drain-delay", "0.5")
    gateway = subprocess.Popen([sys.executable, "-m", "gateway", *arguments, *quiet], stderr=subprocess.DEVNULL)
    await_answer(port, "/ready")
    return gateway


def visit(ports: list[int], results: Counter[str], left: list[None]) -> None:
    """Send requests on one connection until all are sent."""
    at, connection = 0, None
    while left:
        try:
            left.pop()
        except IndexError:
            return
        for _ in range(100):
            if connection is None:
                connection = HTTPConnection("127.0.0.1", ports[at], timeout=60)
            try:
                connection.request("POST", "/v1/chat/completions", BODY, FIELDS)
                answer = connection.getresponse()
                answer.read()
                results[str(answer.status)] += 1
                break
            except ConnectionRefusedError:
                at, connection = (at + 1) % len(ports), None
                results["refused, went to the other"] += 1
            except (OSError, HTTPException) as error:
                results[f"lost: {type(error).__name__}"] += 1
                connection = None
                break


def play(requests: int, clients: int, *, haproxy: bool) -> Counter[str]:
    processes: list[subprocess.Popen[bytes]] = []
    results: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        engine, a, b = free(), free(), free()
        routes = Path(folder) / "routes.yaml"
        routes.write_text(json.dumps({"models": {"m": {"backends": [f"http://127.0.0.1:{engine}"]}}}))
        command = [sys.executable, "-m", "gateway.sim", "--port", str(engine), "--model", "m"]
        try:
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            await_answer(engine, "/health")
            gateways = [serve(routes, port) for port in (a, b)]
            ports = [a, b]
            if haproxy:
                ports = [free()]
                config = Path(folder) / "haproxy.cfg"
                config.write_text(HAPROXY.format(port=ports[0], a=a, b=b))
                processes.append(subprocess.Popen(["haproxy", "-q", "-f", str(config)]))
                await_answer(ports[0], "/ready")
            left: list[None] = [None] * requests
            visitors = [threading.Thread(target=visit, args=(ports, results, left)) for _ in range(clients)]
            for visitor in visitors:
                visitor.start()
            turn = 0
            while left:
                gateways[turn].send_signal(signal.SIGTERM)
                gateways[turn].wait(60)
                results["restarts"] += 1
                gateways[turn] = serve(routes, (a, b)[turn])
                time.sleep(0.5)
                turn = 1 - turn
            for visitor in visitors:
                visitor.join()
            processes += gateways
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="loadtest.restarts")
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--haproxy", action="store_true", help="one haproxy before both, in place of direct clients")
    options = parser.parse_args()
    began = time.monotonic()
    results = play(options.requests, options.clients, haproxy=options.haproxy)
    for what, count in sorted(results.items()):
        print(f"{count:7d} {what}")
    print(f"in {time.monotonic() - began:.0f} s")
    raise SystemExit(any(what != "200" and (what.isdigit() or what.startswith("lost")) for what in results))


if __name__ == "__main__":
    main()
