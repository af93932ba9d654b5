"""What loads a gateway from outside, and what it must keep: for this load test, and for end-to-end tests."""

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

_BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2})
_COUNTED = frozenset(("counter", "histogram"))
_TROUBLE = re.compile(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)")


@dataclass
class Load:
    """What wrk has counted; `lost` are requests without an answer, `refused` connects that failed, `bad` errors."""

    requests: int = 0
    lost: int = 0
    refused: int = 0
    bad: int = 0

    def add(self, other: "Load") -> None:
        self.requests += other.requests
        self.lost += other.lost
        self.refused += other.refused
        self.bad += other.bad


def wrk(folder: Path, port: int, *, seconds: int, connections: int, timeout: int, close: bool, pause: int = 0) -> Load:
    """Send requests for a while, on connections that are kept or on one for each, `pause` ms after each answer."""
    script = folder / f"wrk-{close}.lua"
    more = 'wrk.headers["connection"] = "close"\n' if close else ""
    more += f"function delay() return {pause} end\n" if pause else ""
    script.write_text(
        f'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\n{more}wrk.body = [[{_BODY}]]\n'
    )
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{timeout}s", "-s", str(script)]
    command = ["wrk", *options, f"http://127.0.0.1:{port}/v1/chat/completions"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if "unable to connect" in done.stdout:  # it tries one connect before it begins
        return Load(refused=1)
    if done.returncode:
        raise RuntimeError(f"wrk ended with status {done.returncode}: {done.stdout}")
    answered = re.search(r"(\d+) requests in", done.stdout)
    if answered is None:
        raise RuntimeError(f"wrk said nothing of its requests: {done.stdout}")
    trouble = _TROUBLE.search(done.stdout)
    refused, *lost = map(int, trouble.groups()) if trouble else (0,)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    return Load(int(answered[1]), sum(lost), refused, int(bad[1]) if bad else 0)


@dataclass
class Counts:
    """The counts at /metrics by name and labels, and the `falls` of those that were lower than before."""

    values: dict[tuple[str, str], float] = field(default_factory=dict)
    falls: list[str] = field(default_factory=list)

    def saw(self, text: str) -> None:
        found = {
            (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
            for family in text_string_to_metric_families(text)
            if family.type in _COUNTED
            for sample in family.samples
        }
        self.falls += [
            f"{key}: {was} to {found.get(key)}" for key, was in self.values.items() if found.get(key, 0) < was
        ]
        self.values = found
