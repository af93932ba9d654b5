"""The preStop hook of an engine's pod: wait until no gateway has a request in flight there.

    python3 wait.py http://tidegate-pods.tidegate.svc:9000 'gpu/$POD_IP:8000' [SECONDS]

It is for engines that the gateways find in Kubernetes: they send nothing new to a pod that ends. It does not drain the
engine itself, since a drain lasts, and would hold for the next pod with this address. Each address of the host is a
gateway; what is in flight is known to each of them alone. It needs nothing but Python, which the image of an engine
has, and TIDEGATE_ADMIN_TOKEN. The exit code is 0 when the engine may be stopped, 1 when that took longer than SECONDS
(600), when no gateway answers, or when a gateway still sends requests after 60 s.
"""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import quote, urlsplit

LOOK, SILENT, STILL_CHOSEN = 0.5, 10.0, 60.0


def gateways(url):
    """Return the URL of every gateway behind the host of this one."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError:
        return []
    hosts = {f"[{address[0]}]" if family == socket.AF_INET6 else address[0] for family, *_, address in found}
    return sorted(f"{parts.scheme}://{host}:{parts.port or 80}" for host in hosts)


def state(gateway, backend):
    """Return "drained", "draining" or "chosen", "unknown" where a gateway does not have it, "" without an answer."""
    head = {}
    if token := os.environ.get("TIDEGATE_ADMIN_TOKEN"):
        head["authorization"] = f"Bearer {token}"
    url = f"{gateway}/admin/backends/{quote(backend, safe='/:[]')}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=head), timeout=5) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        return "unknown" if error.code == 404 else ""
    except (OSError, HTTPException, ValueError):
        return ""
    return "drained" if found["drained"] else "draining" if found["draining"] else "chosen"


def main(url, name, seconds=600.0):
    """Return the exit code."""
    backend, began = os.path.expandvars(name), time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        states = [state(each, backend) for each in gateways(url)]
        told = [each for each in states if each]
        # One that does not answer may be about to, or is gone and has nothing in flight any more.
        if told and set(told) <= {"drained", "unknown"} and (len(told) == len(states) or passed > SILENT):
            print(f"{backend}: no request is in flight")
            return 0
        if not told and passed > SILENT:
            print(f"no gateway answers at {url}", file=sys.stderr)
            return 1
        if "chosen" in told and passed > STILL_CHOSEN:
            print(f"{backend} still gets requests: it is not found in Kubernetes, or not seen to end", file=sys.stderr)
            return 1
        time.sleep(LOOK)
    print(f"{backend}: requests are still in flight after {seconds:g} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])))
