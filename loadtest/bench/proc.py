"""What Linux tells about a tree of processes and about the cores under it."""

import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Core:
    """Seconds since boot in which this core worked, and in which the host withheld it."""

    busy: float
    stolen: float


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU seconds that a set of processes has used, and the state of every core, at one monotonic instant."""

    at: float
    cpu: float
    cores: dict[int, Core]


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name, from field 3 (state) on; None when it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def tree(root: int) -> list[int]:
    """`root` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat_fields(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _cores() -> Iterator[tuple[int, Core]]:
    for line in Path("/proc/stat").read_text().splitlines():
        if matched := re.match(r"cpu(\d+) ", line):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (
                int(ticks) / TICKS_PER_SECOND for ticks in line.split()[1:9]
            )
            yield int(matched[1]), Core(user + nice + system + irq + softirq, steal)


def sample(pids: Iterable[int]) -> Sample:
    """Reads the clocks of `pids` now; those that have ended count nothing."""
    at = time.monotonic()
    fields = [found for pid in pids if (found := _stat_fields(pid))]
    return Sample(at, sum(int(f[11]) + int(f[12]) for f in fields) / TICKS_PER_SECOND, dict(_cores()))


def memory_kb(pids: Iterable[int]) -> int:
    """Anonymous memory of `pids`, in KiB; pages shared between them count once.

    Not that of files: its share of the interpreter and its libraries changes with every process that uses them too.
    """
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(size) for size in re.findall(r"(?m)^Pss_Anon:\s+(\d+)", rollup))
    return total
