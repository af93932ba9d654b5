"""`python -m loadtest.upgrades`: fails when a gateway loses a request while it is upgraded again and again.

wrk sends requests on connections that are kept and on one for each; upgrades come as soon as the workers of the last
one have left. With `--kill` a worker is killed each five seconds instead, which may cost what was open in it. The
counts at /metrics must never fall, and no connect may fail.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from loadtest.bench.peers import HERE, free_port
from loadtest.upgrades.load import Counts, Load, wrk

MOCK = HERE / "mockvllm"
CONNECTIONS, CHUNK_SECONDS, TIMEOUT = 32, 20, 60
KILL_EVERY, SCRAPE_EVERY = 5.0, 0.5


class Gateway:
    """A gateway with workers, and what its admin listener says."""

    def __init__(self, folder: Path, workers: int, drain: float, backend: int) -> None:
        self.port, self.admin = free_port(), free_port()
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


def main() -> int:
    """Return 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--drain", type=float, default=20.0, help="seconds of --drain-timeout")
    parser.add_argument("--kill", action="store_true", help="kill a worker each five seconds; upgrade never")
    asked = parser.parse_args()
    total, counts = Load(), Counts()
    turns, scrapes, done = 0, 0, threading.Event()
    with tempfile.TemporaryDirectory() as name:
        folder, backend = Path(name), free_port()
        engine = subprocess.Popen([str(MOCK), "-p", str(backend), "-m", "m", "-t", "1", "-i", "1"])
        gateway = Gateway(folder, asked.workers, asked.drain, backend)

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
            nonlocal scrapes
            while not done.wait(SCRAPE_EVERY):
                counts.saw(gateway.ask("/metrics"))
                scrapes += 1

        try:
            gateway.until("all workers serve", "", None)
            threads = [threading.Thread(target=each) for each in (disturb, scrape)]
            for thread in threads:
                thread.start()
            close = False
            while total.requests < asked.requests and all(thread.is_alive() for thread in threads):
                options = {"seconds": CHUNK_SECONDS, "connections": CONNECTIONS, "timeout": TIMEOUT}
                total.add(wrk(folder, gateway.port, **options, close=close))
                close = not close
                what = "kills" if asked.kill else "upgrades"
                answers = f"{total.requests} answered, {total.lost} lost, {total.refused} refused, {total.bad} errors"
                print(f"{answers}, {turns} {what}", flush=True)
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
    print(f"{scrapes} scrapes; counts that fell: {counts.falls or 'none'}")
    may_lose = CONNECTIONS * turns if asked.kill else 0
    is_bad = total.bad > 0 and not asked.kill
    return int(broken or total.lost > may_lose or total.refused > 0 or is_bad or bool(counts.falls))


if __name__ == "__main__":
    sys.exit(main())
