"""What `serve` says when it starts, and that a start that fails leaves everything as it was."""

import json
import socket
import sqlite3
from pathlib import Path

import pytest

from tests.e2e.processes import running, serving

pytestmark = pytest.mark.anyio
EARLIER = """
CREATE TABLE counts (
    kind TEXT, name TEXT, sli TEXT, width INTEGER, slot INTEGER, good INTEGER, bad INTEGER,
    PRIMARY KEY (kind, name, sli, width, slot)
) WITHOUT ROWID;
CREATE TABLE ejections (backend TEXT, at REAL, until REAL, reason TEXT);
PRAGMA user_version = 1;
"""


@pytest.fixture
def routes(tmp_path: Path) -> str:
    path = tmp_path / "routes.yaml"
    path.write_text(json.dumps({"models": {"m": {"backends": ["http://127.0.0.1:9"]}}}))
    return str(path)


@pytest.mark.parametrize("taken", ["--port", "--admin-port"])
async def test_a_port_that_is_taken_leaves_the_state_of_the_gateway_that_has_it_alone(
    tmp_path: Path, routes: str, taken: str
) -> None:
    state = tmp_path / "state" / "state.sqlite"
    state.parent.mkdir()
    connection = sqlite3.connect(state)
    connection.executescript(EARLIER)
    connection.close()
    before = state.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = str(first.getsockname()[1])
        free = "--admin-port" if taken == "--port" else "--port"
        options = (taken, port, free, "0", "--state", f"sqlite:///{state}")
        async with running("gateway.cli", "serve", routes, *options) as second:
            assert await second.ended() == 1
    said = f"tidegate: cannot listen on 127.0.0.1:{port}: Address already in use; {taken} takes another port"
    assert second.err[-1] == said
    assert state.read_bytes() == before
    assert [each.name for each in state.parent.iterdir()] == ["state.sqlite"]


async def test_it_says_why_it_runs_in_pure_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_PURE", "1")
    async with serving(tmp_path, ["http://127.0.0.1:9"]) as child:
        told = json.loads(await child.said("runs in pure Python: answers are the same"))
    assert (told["level"], told["reason"]) == ("info", "TIDEGATE_PURE is set")
