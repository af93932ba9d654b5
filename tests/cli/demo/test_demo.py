"""The demo as people start it: real engines, a real gateway, real signals."""

import json
import os
import re
import shlex
import signal
import socket
import sys
from typing import Any

import httpx
import pytest

from tests.cli.demo.conftest import Demo, StartDemo
from tests.waiting import DEADLINE, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are counted in /proc")

UP = "Ctrl-C ends it"
READY = re.compile(r"^127\.0\.0\.1:\d+ +(gpu|cpu) +ready +\d+ +[\d.]+ +[\d.-]+", re.MULTILINE)


def address(demo: Demo, what: str) -> str:
    found = re.search(rf"^{what} +(http://127\.0\.0\.1:\d+)", demo.out, re.MULTILINE)
    assert found is not None, demo.out
    return found[1]


def assert_ends_well(demo: Demo, *signals: signal.Signals) -> None:
    children = demo.children()
    assert len(children) == 4

    for number in signals:
        demo.process.send_signal(number)

    assert demo.ended() == 0
    assert demo.err == ""
    assert not any(map(running, children))
    assert list(demo.temporary.iterdir()) == []


class TestARunThatEndsByItself:
    def test_it_serves_and_sums_up(self, start_demo: StartDemo) -> None:
        demo = start_demo("--quiet", "--seconds", "3", "--rate", "8")

        assert demo.ended() == 0, demo.err
        assert demo.err == ""
        summary = demo.out.rpartition("\nall 3 s")[2]
        assert sorted(READY.findall(summary)) == ["cpu", "gpu", "gpu"]
        requests = re.search(r"^ *(\d+) +[\d.]+ +\d+ ms +\d+ ms +\d+ ms +100\.00 % +\d+$", summary, re.MULTILINE)
        assert requests is not None, summary
        assert int(requests[1]) > 0
        assert list(demo.temporary.iterdir()) == []

    def test_a_run_that_served_nobody_failed(self, start_demo: StartDemo) -> None:
        demo = start_demo("--quiet", "--seconds", "1", "--rate", "0.1")

        assert demo.ended() == 1
        # A busy machine takes longer than it was asked to.
        words = r"tidegate demo: no request was answered in \d+ s; more --seconds or a higher --rate may help\n"
        assert re.fullmatch(words, demo.err)


class TestWhatItTellsToTry:
    def test_the_lines_can_be_copied_whatever_is_set_for_another_gateway_until_it_is_told_to_end(
        self, start_demo: StartDemo
    ) -> None:
        others = {"TIDEGATE_HOST": "0.0.0.0", "TIDEGATE_ADMIN_TOKEN": "another's"}
        demo = start_demo("--quiet", "--rate", "0.1", environment=others)  # no more than a busy machine can answer
        demo.until_shown(UP)
        _, curl, python, _ = demo.out.split("\n\n", 3)

        command, n, url, h, header, d, body = shlex.split(curl.replace("\\\n", ""))
        assert (command, n, h, d) == ("curl", "-N", "-H", "-d")
        name, _, value = header.partition(": ")
        answer = httpx.post(url, headers={name: value}, json=json.loads(body), trust_env=False, timeout=DEADLINE)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.rstrip().endswith("data: [DONE]")

        names: dict[str, Any] = {}
        exec(python, names)  # noqa: S102 - what the demo prints is what is tested
        assert len(python.splitlines()) == 3
        assert names["answer"].choices[0].message.content
        names["client"].close()

        models = httpx.get(f"{address(demo, 'OpenAI clients')}/v1/models", trust_env=False, timeout=DEADLINE).json()
        assert {card["id"] for card in models["data"]} == {"demo-chat", "gpt-4o-mini"}
        for path in ("/metrics", "/admin/status"):
            assert httpx.get(address(demo, "Admin") + path, trust_env=False, timeout=DEADLINE).status_code == 200

        assert_ends_well(demo, signal.SIGTERM)


class TestNothingIsLeftBehind:
    def test_not_even_when_told_before_it_is_up(self, start_demo: StartDemo) -> None:
        demo = start_demo("--quiet")
        until(demo.children, "the first engine")
        children = demo.children()

        demo.process.send_signal(signal.SIGINT)

        assert demo.ended() == 0
        assert demo.err == ""
        assert UP not in demo.out
        assert not any(map(running, children))

    def test_no_process_even_when_the_demo_is_killed(self, start_demo: StartDemo) -> None:
        demo = start_demo("--quiet")
        demo.until_shown(UP)
        children = demo.children()
        assert len(children) == 4

        demo.process.kill()

        demo.ended()
        until(lambda: not any(map(running, children)), "engines and gateway to end")


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("words", "name"), [("gateway.cli serve", "the gateway"), ("--profile cpu", "engine cpu-0")]
    )
    def test_a_process_that_dies_ends_the_demo_and_is_named(self, start_demo: StartDemo, words: str, name: str) -> None:
        demo = start_demo("--quiet")
        demo.until_shown(UP)
        children = demo.children()
        victim = demo.child(words)

        os.kill(victim, signal.SIGKILL)

        assert demo.ended() == 1
        assert demo.err.startswith(f"tidegate demo: {name} (pid {victim}) was ended by SIGKILL\n")
        assert "Traceback" not in demo.err
        assert not any(map(running, children))

    @pytest.mark.parametrize("option", ["--port", "--admin-port"])
    def test_a_port_in_use_is_told_before_anything_is_started(self, start_demo: StartDemo, option: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            demo = start_demo(option, str(port))

            assert demo.ended() == 1

        assert demo.out == ""
        assert demo.err == (
            f"tidegate demo: the gateway cannot listen on 127.0.0.1:{port}: Address already in use.\n"
            f"  Choose another {option}, or 0 for any free one; `ss -ltnp sport = :{port}` shows what has it.\n"
        )


class TestOnATerminal:
    def test_the_table_is_redrawn_and_the_cursor_given_back(self, start_demo: StartDemo) -> None:
        demo = start_demo("--quiet", "--rate", "4", tty=True)
        until(lambda: demo.out.count("over the last") >= 3 or demo.process.poll() is not None, "the third table")

        assert_ends_well(demo, signal.SIGINT, signal.SIGINT)  # impatience changes nothing

        assert demo.out.count("over the last") >= 3
        assert demo.out.rindex("\x1b[?25h") > demo.out.rindex("\x1b[?25l")

    def test_plain_asks_for_lines_there_too(self, start_demo: StartDemo) -> None:
        demo = start_demo("--quiet", "--plain", "--seconds", "3", "--rate", "8", tty=True)

        assert demo.ended() == 0
        assert "\x1b[?25l" not in demo.out
