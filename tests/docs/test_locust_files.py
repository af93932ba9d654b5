"""The locust files of docs/loadtest.md run as they are written."""

import re
import signal
from pathlib import Path

import pytest

from loadtest.report.recording import Recording
from tests.docs.commands import ROOT
from tests.e2e.fakes import Call, backends, good
from tests.e2e.processes import running
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
ASKER, TRANSLATOR = re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / "docs" / "loadtest.md").read_text())


async def asked(folder: Path, text: str, *options: str) -> list[Call]:
    """Run a locust file against an engine until it has asked three times, and return how; nothing may fail."""
    (folder / "own.py").write_text(text)
    async with backends(good) as [engine]:
        where = ("--host", engine.url, "--headless", "--users", "2", "--stop-timeout", "60")
        async with running("locust", "-f", str(folder / "own.py"), *where, *options) as locust:
            await eventually(lambda: len(engine.calls) >= 3)
            locust.process.send_signal(signal.SIGINT)
            assert await locust.ended() == 0, locust.err
        return engine.calls


async def test_a_plain_locust_file(tmp_path: Path) -> None:
    calls = await asked(tmp_path, ASKER)
    assert {call.json["messages"][0]["content"] for call in calls} == {"What makes the tide?"}


async def test_a_user_of_ones_own_is_measured_and_recorded(tmp_path: Path) -> None:
    record = tmp_path / "recording"
    calls = await asked(tmp_path, TRANSLATOR, "Translator", "--model", "m", "--record", str(record))
    assert all(call.json["messages"][0]["content"].startswith("Translate: ") for call in calls)
    requests = Recording.read(record).requests
    assert {request.name for request in requests} == {"translate"}
    assert all(request.ttft is not None for request in requests)


@pytest.mark.parametrize("text", [ASKER, TRANSLATOR], ids=["plain", "with what is here"])
def test_it_is_short(text: str) -> None:
    assert len([line for line in text.splitlines() if line]) <= 10
