"""`python -m loadtest.upgrades`: fails when a gateway loses a request while it is upgraded again and again.

wrk sends requests on connections that are kept and on one for each; upgrades come as soon as the workers of the last
one have left. With `--kill` a worker is killed each five seconds instead, which may cost what was open in it. The
counts at /metrics must never fall, and no connect may fail.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

MOCK = Path(__file__).parents[1] / "bench" / "mockvllm"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2})
CONNECTIONS, CHUNK_SECONDS = 32, 20
KILL_EVERY, SCRAPE_EVERY = 5.0, 0.5
_COUNTED = frozenset(("counter", "histogram"))
_TROUBLE = re.compile(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)")


def free() -> int:
    """Return a free port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


class Gateway:
    """A gateway with workers, and what its admin listener says."""

    def __init__(self, folder: Path, workers: int, drain: float, backend: int) -> None:
        self.port, self.admin = free(), free()
        (folder / "routes.yaml").write_text(f"models: {{m: {{backends: ['http://127.0.0.1:{backend}']}}}}")
        options = {"port": self.port, "admin-port": self.admin, "workers": workers, "drain-timeout": drain}
        listed = ["--state", "memory://", "--no-access-log"]
        listed += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.log = (folder / "gateway.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "serve", str(folder / "routes.yaml"), *listed],
            stderr=self.log,
        )

    def ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("/admin/status"))
        return found

    def until(self, what: str, key: str, value: object) -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                status = self.status()
            except OSError:
                status = {}
            stages = [each["stage"] for each in status.get("workers", ())]
            ready = any(each["state"] == "ready" for each in status.get("backends", ()))
            if ready and set(stages) == {"serving"} and (not key or status[key] == value):
                return
            time.sleep(0.1)
        raise SystemExit(f"it never came to this: {what}")


class Watch:
    """Scrapes, and keeps what has fallen."""

    def __init__(self, gateway: Gateway) -> None:
        self.falls: list[str] = []
        self.scrapes = 0
        self._gateway, self._counts = gateway, dict[tuple[str, str], float]()

    def look(self) -> None:
        families = text_string_to_metric_families(self._gateway.ask("/metrics"))
        found = {
            (sample.name, str(sorted(sample.labels.items()))): sample.value
            for family in families
            if family.type in _COUNTED
            for sample in family.samples
        }
        fallen = {key: was for key, was in self._counts.items() if found.get(key, 0) < was}
        self.falls += [f"{key}: {was} to {found.get(key)}" for key, was in fallen.items()]
        self._counts = found
        self.scrapes += 1


def load(port: int, folder: Path, close: bool) -> tuple[int, int, int, int]:
    """Send requests for a while; return how many were answered, lost, not connected, and answered with an error."""
    script = folder / f"load-{close}.lua"
    more = 'wrk.headers["connection"] = "close"\n' if close else ""
    script.write_text(
        f'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\n{more}wrk.body = [[{BODY}]]\n'
    )
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{CHUNK_SECONDS}s", "--timeout", "60s", "-s", str(script)]
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    text = subprocess.run(["wrk", *options, url], capture_output=True, text=True, check=True).stdout
    trouble = _TROUBLE.search(text)
    connect, *others = map(int, trouble.groups()) if trouble else (0, 0)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    answered = re.search(r"(\d+) requests in", text)
    return int(answered[1]) if answered else 0, sum(others), connect, int(bad[1]) if bad else 0


def main() -> int:
    """Return 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--drain", type=float, default=20.0, help="seconds of --drain-timeout")
    parser.add_argument("--kill", action="store_true", help="kill a worker each five seconds; upgrade never")
    asked = parser.parse_args()
    total = [0, 0, 0, 0]
    turns, done = 0, threading.Event()
    with tempfile.TemporaryDirectory() as name:
        folder, backend = Path(name), free()
        engine = subprocess.Popen([str(MOCK), "-p", str(backend), "-m", "m", "-t", "1", "-i", "1"])
        gateway = Gateway(folder, asked.workers, asked.drain, backend)
        watch = Watch(gateway)

        def disturb() -> None:
            nonlocal turns
            while not done.is_set():
                if asked.kill:
                    os.kill(gateway.status()["workers"][0]["pid"], signal.SIGKILL)
                    turns += 1
                    done.wait(KILL_EVERY)
                    gateway.until("all workers serve", "", None)
                else:
                    generation = gateway.status()["generation"] + 1
                    gateway.process.send_signal(signal.SIGUSR2)
                    gateway.until("the next generation serves alone", "generation", generation)
                    turns += 1

        def scrape() -> None:
            while not done.wait(SCRAPE_EVERY):
                watch.look()

        try:
            gateway.until("all workers serve", "", None)
            threads = [threading.Thread(target=each) for each in (disturb, scrape)]
            for thread in threads:
                thread.start()
            close = False
            while total[0] < asked.requests and all(thread.is_alive() for thread in threads):
                for place, count in enumerate(load(gateway.port, folder, close)):
                    total[place] += count
                close = not close
                what = "kills" if asked.kill else "upgrades"
                answered, lost, refused, errors = total
                counts = f"{answered} answered, {lost} lost, {refused} refused, {errors} errors"
                print(f"{counts}, {turns} {what}", flush=True)
            broken = not all(thread.is_alive() for thread in threads)
            done.set()
            for thread in threads:
                thread.join()
        finally:
            done.set()
            gateway.process.terminate()
            gateway.process.wait()
            engine.terminate()
            engine.wait()
    print(f"{watch.scrapes} scrapes; counts that fell: {watch.falls or 'none'}")
    may_lose = CONNECTIONS * turns if asked.kill else 0
    return int(broken or total[1] > may_lose or total[2] > 0 or (total[3] > 0 and not asked.kill) or bool(watch.falls))


if __name__ == "__main__":
    sys.exit(main())
