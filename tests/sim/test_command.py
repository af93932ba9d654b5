"""`tidegate sim` as a process."""

import re
import signal
import socket
import subprocess
import sys
from contextlib import closing

import httpx
import pytest
from typer.testing import CliRunner

from gateway.cli.commands import app
from tests.sim.process import ROOT, started, url_in
from tests.waiting import DEADLINE


def test_it_says_where_it_listens() -> None:
    with started("--model", "llama", "--profile", "cpu") as (_, line):
        assert re.fullmatch(r"tidegate sim listening on http://127\.0\.0\.1:\d+ profile=cpu model=llama\n", line)
        assert httpx.get(f"{url_in(line)}/v1/models", timeout=DEADLINE).json()["data"][0]["id"] == "llama"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_quietly_even_while_it_streams(number: signal.Signals) -> None:
    with started("--engine", "step_base=1") as (process, line):
        host, port = url_in(line).removeprefix("http://").split(":")
        with closing(socket.create_connection((host, int(port)))) as client:
            body = b'{"messages":[{"role":"user","content":"x"}],"stream":true}'
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
            process.send_signal(number)
            output, errors = process.communicate(timeout=DEADLINE)
        assert (process.returncode, output, errors) == (0, "", "")


def test_a_signal_ends_it_while_it_is_still_starting() -> None:
    command = [sys.executable, "-c", "import signal, gateway.sim.server as s, gateway.sim.settings as t, threading, os;"
               "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start();"
               "s.run(t.Settings(startup_seconds=60))"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_says_where_its_control_port_is() -> None:
    with started("--control-port", "0") as (_, line):
        control = line.split("control=")[1].strip()
        assert control != url_in(line)
        assert httpx.get(f"{control}/sim/state", timeout=DEADLINE).status_code == 200


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--port", "0", "--engine", "num_blocks=3"], "give at least 2048 blocks"),
        (["--port", "0", "--engine", "speed=3"], "write NAME=VALUE"),
        (["--port", "0", "--profile", "tpu"], "'gpu', 'cpu'"),
        ([], "Missing option '--port'"),
    ],
)
def test_wrong_options_are_refused_in_words_that_help(options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, ["sim", *options], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 2
    assert complaint in " ".join(re.sub("[│╭╮╰╯─]", " ", result.output).split())


def test_a_port_that_is_taken_is_an_error() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "gateway.sim", "--port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 1
    assert done.stderr == f"cannot listen on 127.0.0.1 port {port}: Address already in use\n"


def test_the_command_line_does_not_load_the_server() -> None:
    code = "import sys, gateway.sim.command; print('uvicorn' in sys.modules, 'fastapi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
