"""What was recorded of one run: who asked what and when, what came of it, and what the gateway said meanwhile.

A recording is a folder: `run.json`, `requests.csv`, `gaps.csv` and `series.csv`. All times are seconds; `at` counts
from the start of the run. An empty cell stands for what there is not.
"""

import csv
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

OK, FAILED, CUT, REFUSED = "ok", "failed", "cut", "refused"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as its client saw it.

    `at` is when it was due, from which its times count. `outcome` is `ok`, `failed` (a 5xx, or no answer), `cut` (a
    stream without its end), or `refused` (429, or 503 with Retry-After). `ttft` and `tpot` exist for streams only,
    `tpot` from two tokens on. `backend` and `version` are what the answer's head named, else "". `cached_tokens` are
    those of the prompt that an engine found in its cache, where it says so.
    """

    at: float
    name: str
    gateway: str = ""
    tenant: str = ""
    service_class: str = ""
    status: int = 0
    outcome: str = FAILED
    backend: str = ""
    version: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure that the gateway told: `name` is what (`burn`, `share`, `in_flight`, `queue`), `label` whose."""

    at: float
    name: str
    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run: a fault, its end, a canary's step, a change of the load."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Objective:
    """What requests have to meet: targets in per cent, thresholds in seconds. A target of 0 stands for none.

    `long_prompts` are pairs of prompt tokens and the TTFT that holds from so many on.
    """

    availability: float = 99.9
    ttft: float = 0.5
    ttft_target: float = 99.0
    tpot: float = 0.05
    tpot_target: float = 99.0
    long_prompts: tuple[tuple[int, float], ...] = ()

    def ttft_under(self, prompt_tokens: int) -> float:
        """Return the TTFT threshold for a prompt of so many tokens."""
        return max((under for tokens, under in self.long_prompts if prompt_tokens >= tokens), default=self.ttft)

    def late_ttft(self, request: Request) -> bool:
        """Whether the first token of a request came too late."""
        under = self.ttft_under(request.prompt_tokens)
        return self.ttft_target > 0 and request.ttft is not None and request.ttft > under

    def late_tpot(self, request: Request) -> bool:
        """Whether the tokens of a request came too slowly."""
        return self.tpot_target > 0 and request.tpot is not None and request.tpot > self.tpot

    def is_met_by(self, request: Request) -> bool:
        """Whether a request was answered whole and in time."""
        return request.outcome == OK and not self.late_ttft(request) and not self.late_tpot(request)


@dataclass(frozen=True, slots=True)
class About:
    """What a reader has to know to judge a run, and to repeat it."""

    title: str
    command: str
    seed: int
    seconds: float
    time_scale: float = 1.0
    objective: Objective = Objective()
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=lambda: {"tidegate": metadata.version("tidegate")})
    machine: Mapping[str, str] = field(default_factory=lambda: machine())


@dataclass(slots=True)
class Recording:
    """One run. `gaps` counts the gaps between output events, by (second they ended in, gap in seconds)."""

    about: About
    requests: list[Request] = field(default_factory=list)
    gaps: Counter[tuple[int, float]] = field(default_factory=Counter)
    series: list[Sample] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write the recording to a folder, which is made where there is none."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(asdict(self.about), indent=2) + "\n")
        _write(folder / "requests.csv", Request, (asdict(each) for each in sorted(self.requests, key=lambda r: r.at)))
        _write(folder / "series.csv", Sample, map(asdict, self.series))
        with (folder / "gaps.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("second", "gap", "count"))
            rows.writerows((second, gap, count) for (second, gap), count in sorted(self.gaps.items()))

    @classmethod
    def read(cls, folder: Path) -> "Recording":
        """Read a recording; raises OSError and ValueError where the folder holds none."""
        about = json.loads((folder / "run.json").read_text())
        objective = about["objective"]
        objective["long_prompts"] = tuple((tokens, under) for tokens, under in objective["long_prompts"])
        about["objective"] = Objective(**objective)
        about["events"] = tuple(Event(**each) for each in about["events"])
        about["notes"] = tuple(about["notes"])
        with (folder / "gaps.csv").open(newline="") as file:
            gaps = Counter({(int(row["second"]), float(row["gap"])): int(row["count"]) for row in csv.DictReader(file)})
        return cls(
            About(**about),
            [Request(**row) for row in _rows(folder / "requests.csv", Request)],
            gaps,
            [Sample(**row) for row in _rows(folder / "series.csv", Sample)],
        )


def rounded(gap: float) -> float:
    """Return a gap in seconds to two digits, and 0 below 10 us, so that gaps can be counted."""
    return float(f"{gap:.1e}") if gap >= 1e-5 else 0.0


def machine() -> dict[str, str]:
    """What this run ran on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": str(os.cpu_count()),
        "cpu": _cpu(),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _write(path: Path, kind: type[Request] | type[Sample], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [each.name for each in fields(kind)])
        table.writeheader()
        for row in rows:
            table.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


def _rows(path: Path, kind: type[Request] | type[Sample]) -> Iterator[dict[str, Any]]:
    """Read the rows of a table, each cell as the type that the field of its name has."""
    kinds = {each.name: each.type for each in fields(kind)}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            yield {name: _value(text, kinds[name]) for name, text in row.items()}


def _value(text: str, kind: Any) -> object:
    if kind is str:
        return text
    if kind is int:
        return int(text)
    if not text:
        return None
    return int(text) if kind == int | None else float(text)
