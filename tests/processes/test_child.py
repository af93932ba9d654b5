import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.processes.child import ProcessDied, spawn
from tests.waiting import DEADLINE, running, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc"),
]


@pytest.fixture
def actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules can be spawned."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    return tmp_path


def write(actors: Path, name: str, source: str) -> None:
    (actors / f"{name}.py").write_text(source)


async def test_it_finds_the_line_that_says_where_it_listens(actors: Path) -> None:
    write(actors, "speaker", "import time\nprint('a word')\nprint('listening on X', flush=True)\ntime.sleep(60)")
    child = await spawn("speaker", ["speaker"])

    assert await child.line_with("listening on") == "listening on X\n"
    assert repr(child) == f"<Child speaker pid {child.pid} runs>"

    await child.stop()
    assert not running(child.pid)
    assert repr(child) == f"<Child speaker pid {child.pid} was ended by SIGTERM>"


async def test_one_that_ends_at_once_is_told_with_its_last_words(actors: Path) -> None:
    write(actors, "failer", "import sys\nsys.exit('no memory left')")
    child = await spawn("engine 1", ["failer"])

    with pytest.raises(ProcessDied) as died:
        await child.line_with("listening on")

    assert str(died.value) == f"engine 1 (pid {child.pid}) ended with status 1\n  no memory left"
    await child.stop()


async def test_one_that_says_nothing_is_waited_for_so_long_and_no_longer(actors: Path) -> None:
    write(actors, "mute", "import time\ntime.sleep(60)")
    child = await spawn("engine 1", ["mute"])

    with pytest.raises(ProcessDied, match=r"did not come up in 0\.2 s"):
        await child.line_with("listening on", seconds=0.2)

    await child.stop()


async def test_however_much_it_says_it_is_read(actors: Path) -> None:
    write(actors, "talker", "print('up')\nfor number in range(100_000): print('word', number)\nraise SystemExit(3)")
    child = await spawn("talker", ["talker"])
    await child.line_with("up")

    with pytest.raises(ProcessDied, match=r"(?s)ended with status 3\n.*word 99999$"):
        async with asyncio.timeout(DEADLINE):
            await child.watch()

    await child.stop()


async def test_one_that_will_not_end_is_ended(actors: Path) -> None:
    write(
        actors,
        "stubborn",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)",
    )
    child = await spawn("stubborn", ["stubborn"])
    await child.line_with("up")

    await child.stop(grace=0.1)

    assert repr(child).endswith("was ended by SIGKILL>")


async def test_it_sees_no_setting_of_another_gateway(actors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_HOST", "0.0.0.0")
    monkeypatch.setenv("TIDEGATE_PURE", "1")  # which code runs is no setting
    write(actors, "teller", "import os\nprint('settings', [name for name in os.environ if 'TIDEGATE' in name])")
    child = await spawn("teller", ["teller"])

    assert await child.line_with("settings") == "settings ['TIDEGATE_PURE']\n"

    await child.stop()


def test_it_ends_with_a_parent_that_is_killed(actors: Path) -> None:
    write(actors, "child", "import os, time\nprint('up', os.getpid(), flush=True)\ntime.sleep(60)")
    write(
        actors,
        "parent",
        "import asyncio\nfrom gateway.processes.child import spawn\n"
        "async def main():\n"
        "    print(await (await spawn('child', ['child'])).line_with('up'), flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())",
    )
    with subprocess.Popen([sys.executable, "-m", "parent"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[1])
        assert running(pid)

        parent.send_signal(signal.SIGKILL)

    until(lambda: not running(pid), "the child to end")
