"""What counts against a candidate, and when."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.canary.rollout import Phase
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, chunked, event, good
from tests.e2e.test_canary import LATE, PATIENT, crowd, in_phase, rolling

pytestmark = pytest.mark.anyio


async def test_a_late_first_token_counts_while_its_stream_still_runs(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def endless(call: Any) -> None:
        await asyncio.sleep(LATE)
        await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("a")))
        await release.wait()
        await call.send(chunked(event("b", "stop"), DONE) + LAST_CHUNK)

    canary: dict[str, Any] = {"objective": PATIENT, "warm_up": 0, "steps": [50, 95]}
    async with rolling(tmp_path, good, endless, **canary) as (running, _, _):
        async with crowd(running.port, fresh=True) as people:
            try:
                done = await in_phase(running, Phase.ROLLED_BACK)
                settled = Counter(each.version for each in running.records.exchanges)
            finally:
                release.set()
        assert done.rollout.reason.startswith("ttft")
        assert settled["v1"] > 10
        assert settled["v2"] == 0
        assert people.errors == []
        weighed = done.evidence.tracks["ttft"].side(candidate=True)
        await running.quiet()
        assert done.evidence.tracks["ttft"].side(candidate=True) == weighed, "counted once"
