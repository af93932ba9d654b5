import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from loadtest.bench import proc

SPIN = "import time\nwhile time.process_time() < 0.2: pass\nprint('spun', flush=True)\ninput()"


@pytest.fixture
def spun() -> Iterator[subprocess.Popen[str]]:
    """A process that has used 0.2 s of CPU and now waits."""
    with subprocess.Popen(
        [sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "spun\n"
        yield process
        process.kill()


def test_a_tree_is_the_process_and_what_it_started(spun: subprocess.Popen[str]) -> None:
    assert proc.tree(spun.pid) == [spun.pid]
    assert {os.getpid(), spun.pid} <= set(proc.tree(os.getpid()))


def test_a_sample_holds_the_cpu_that_the_processes_used(spun: subprocess.Popen[str]) -> None:
    before = time.monotonic()
    sample = proc.sample([spun.pid])
    assert sample.cpu >= 0.15
    assert sample.at >= before
    assert all(core.busy > 0 for core in sample.cores.values())


def test_a_process_that_has_ended_counts_nothing(spun: subprocess.Popen[str]) -> None:
    spun.kill()
    spun.wait()
    assert proc.sample([spun.pid]).cpu == 0
    assert proc.memory_kb([spun.pid]) == 0


def test_memory_is_that_of_a_living_process(spun: subprocess.Popen[str]) -> None:
    assert 1_000 < proc.memory_kb([spun.pid]) < 1_000_000
