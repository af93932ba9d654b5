"""Whatever happens to the bytes of a route file, it loads or it is refused with reasons, and soon.

Soon is counted in CPU time of this thread, beside that of the whole file: a slow machine is slow for both, while a
parser that runs away takes thousands of times as long.
"""

import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable

WHOLE = rb"""# yaml-language-server: $schema=schema.json
pools:
  gpu:
    accelerator: gpu
    cost_per_hour: 2.50
    backends:
      - http://gpu-0:8000
      - {url: "http://${HOST:-gpu-1}:8000/x", max_concurrency: 64, api_key: "${KEY}"}
  cpu: &cpu {accelerator: cpu, backends: ["http://[::1]:8000"]}
  spare: {<<: *cpu, cost_per_hour: 0}
models:
  "llama\u002d3":
    aliases: [gpt-4o-mini, 'meta/llama']
    versions:
      v1: {pools: [gpu, cpu], served_model: Llama}
      v2: {pools: [spare]}
    split: {v1: 95, v2: 5}
    timeouts: {connect: 250ms, first_token: 30s, stall: 20s, total: 10m}
  small:
    backends: [http://small]
    served_model: |-
      text
"""
positions = st.integers(0, len(WHOLE))
pieces = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [b"\t", b"\n", b": ", b"- ", b"*cpu", b"&cpu ", b"<<: ", b"{", b"[", b"!!int ", b"${", b"}", b"'", b"?"]
    ),
)


LONGEST = 300
"""Times as long as the whole file; what damaged files really take is at most a few."""


def load(data: bytes) -> tuple[RouteTable | RoutesError, float]:
    """Return what comes of a file, and the CPU seconds that took."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "routes.yaml"
        path.write_bytes(data)
        began = time.thread_time()
        try:
            result: RouteTable | RoutesError = load_routes(path, {"KEY": "sk-hunter2"})
        except RoutesError as error:
            result = error
        return result, time.thread_time() - began


@cache
def usual() -> float:
    """Return the CPU seconds that the whole file takes here, once everything is imported and warm."""
    return max(load(WHOLE)[1] for _ in range(3))


def outcome(data: bytes) -> RouteTable | RoutesError:
    result, seconds = load(data)
    assert seconds < LONGEST * usual()
    return result


def test_the_whole_file_loads() -> None:
    assert isinstance(outcome(WHOLE), RouteTable)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(positions, st.integers(0, 40), pieces), min_size=1, max_size=4))
def test_a_damaged_file_loads_or_is_refused_with_places(edits: list[tuple[int, int, bytes]]) -> None:
    data = WHOLE
    for start, length, piece in edits:
        data = data[:start] + piece + data[start + length :]

    result = outcome(data)

    if isinstance(result, RoutesError):
        lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80") + 1
        assert result.problems
        assert all(1 <= problem.line <= lines and problem.column >= 1 for problem in result.problems)
        assert "sk-hunter2" not in str(result)


@settings(deadline=None)
@given(positions)
def test_a_file_cut_short_loads_or_is_refused(length: int) -> None:
    outcome(WHOLE[:length])


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    assert isinstance(outcome(data), RoutesError)
