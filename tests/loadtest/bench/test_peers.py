import os
import select
import shutil
import sys
import time
from pathlib import Path

import pytest

from loadtest.bench import peers, proc
from tests.waiting import DEADLINE

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STUBBORN!r}])"


def wait_for_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while text not in path.read_text():
        assert time.monotonic() < deadline, f"{text!r} never came"
        time.sleep(0.01)


def test_leaving_the_block_ends_the_process_and_its_children_however_stubborn(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    with peers.running([sys.executable, "-c", PARENT], core, tmp_path) as process:
        wait_for_text(tmp_path / "stdout.log", "up")
        (child,) = set(proc.tree(process.pid)) - {process.pid}
        end_of_child = os.pidfd_open(child)
    assert process.returncode is not None
    ended, _, _ = select.select([end_of_child], [], [], DEADLINE)
    os.close(end_of_child)
    assert ended


def test_what_ends_while_starting_is_told_with_the_place_of_its_log(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    with peers.running([sys.executable, "-c", "raise SystemExit(3)"], core, tmp_path) as process:
        process.wait(DEADLINE)
        with pytest.raises(SystemExit, match=tmp_path.name):
            peers.wait_until_it_answers(process, peers.free_port(), tmp_path)


def test_without_nginx_and_without_the_right_to_install_it_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)
    with pytest.raises(SystemExit, match="apt-get install nginx-light"):
        peers.find_nginx()
