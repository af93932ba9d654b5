"""The command as a whole: its version, its help, and how it is started."""

import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from gateway import native
from gateway.cli.commands import app
from tests.waiting import DEADLINE


def names() -> list[list[str]]:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    found: list[list[str]] = [[]]
    for name, each in command.commands.items():
        found.append([name])
        found += [[name, inner] for inner in getattr(each, "commands", ())]
    return found


@pytest.mark.parametrize("command", names(), ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_explains_itself(command: list[str], option: str) -> None:
    result = CliRunner().invoke(app, [*command, option])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("command", names(), ids=" ".join)
def test_help_names_options_in_full_at_80_columns(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = typer.main.get_command(app)
    for name in command:
        assert isinstance(found, TyperGroup)
        found = found.commands[name]
    shown = CliRunner().invoke(app, [*command, "--help"]).output
    assert "…" not in shown
    assert "..." not in shown.replace("[ARGS]...", "")
    for option in (name for each in found.params for name in each.opts if name.startswith("--")):
        assert option in shown


def test_every_option_of_serve_is_a_variable_too() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    for option in command.commands["serve"].params:
        names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
        if option.name != "routes":
            assert f"TIDEGATE_{option.name.upper()}" in names


def test_an_option_can_be_set_by_its_variable(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("models: {m: {backends: ['http://localhost:8000']}}")
    result = CliRunner().invoke(app, ["serve", str(path)], env={"TIDEGATE_DRAIN_DELAY": "-1"})
    assert result.exit_code == 2
    assert "'--drain-delay' (env var: 'TIDEGATE_DRAIN_DELAY')" in result.output


def test_it_tells_its_version_as_a_command_and_as_a_module() -> None:
    expected = f"tidegate {version('tidegate')} ({native.running()})\n"
    assert CliRunner().invoke(app, ["--version"]).output == expected
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--version"], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert done.stdout == expected


def serve(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", "serve", str(path), "--state", "memory://", "--port", "0", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


def test_serve_says_on_which_address_it_cannot_listen_once(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("models: {m: {backends: ['http://localhost:8000']}}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(path, "--admin-port", str(port))
    assert done.returncode == 1
    said = f"tidegate: cannot listen on 127.0.0.1:{port}: Address already in use; --admin-port takes another port"
    assert done.stderr.splitlines()[-1] == said


def test_serve_says_that_both_options_name_the_same_port(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("models: {m: {backends: ['http://localhost:8000']}}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    done = serve(path, "--port", port, "--admin-port", port)
    assert done.returncode == 1
    said = f"tidegate: cannot listen on 127.0.0.1:{port}: Address already in use: --port and --admin-port name the same"
    assert done.stderr.splitlines()[-1] == f"{said} port"


def test_serve_counts_the_problems_of_routes_as_check_does(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("models: {m: {backend: ['http://localhost:8000']}}")
    last = "1 problem: these routes cannot be served"
    assert CliRunner().invoke(app, ["check", str(path)]).stderr.splitlines()[-1] == last
    done = serve(path, "--admin-port", "0")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, last)


def test_check_refuses_a_backend_where_the_gateway_would_listen(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("models: {m: {backends: ['http://localhost:8080']}}")
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 1
    assert "this gateway itself listens" in result.output
    assert CliRunner().invoke(app, ["check", str(path), "--port", "8081"]).exit_code == 0


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--port", "65536", "Invalid value for '--port'"),
        ("--admin-port", "-1", "Invalid value for '--admin-port'"),
        ("--max-body", "-1", "Invalid value for '--max-body'"),
        ("--max-connections", "0", "Invalid value for '--max-connections'"),
        ("--drain-delay", "-1", "Invalid value for '--drain-delay'"),
        ("--drain-timeout", "-1", "Invalid value for '--drain-timeout'"),
        ("--cors-origins", "https://chat.example/", "`https://chat.example/` is not an origin"),
        ("--cors-origins", "chat.example", "`chat.example` is not an origin"),
        (
            "--otlp-endpoint",
            "nonsense",
            "--otlp-endpoint (or TIDEGATE_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT): the base URL of an OTLP",
        ),
        ("--otlp-endpoint", "http://:4318", "has no host: write it with the host and the port of OTLP/HTTP"),
        ("--otlp-endpoint", "http://collector:high", "the port is a number up to 65535"),
        ("--workers", "0", "--workers is auto, or a number from 1 to 256"),
        ("--log-level", "loud", "--log-level is debug, info, warning or error, not `loud`"),
        ("--dns-server", "localhost:53", "`localhost:53` is not the IP address of a name server"),
        ("--kubernetes-api", "10.0.0.1:6443", "--kubernetes-api: the address of the Kubernetes API server does not"),
    ],
)
def test_serve_takes_no_value_that_would_refuse_every_request(
    tmp_path: Path, option: str, value: str, said: str
) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("models: {m: {backends: ['http://localhost:8000']}}")
    result = CliRunner().invoke(app, ["serve", str(path), option, value])
    assert result.exit_code == 2
    assert said in result.output


def test_white_space_is_no_admin_token(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("models: {m: {backends: ['http://localhost:8000']}}")
    options = ["serve", str(path), "--admin-host", "0.0.0.0"]
    result = CliRunner().invoke(app, options, env={"TIDEGATE_ADMIN_TOKEN": " \n"})
    assert result.exit_code == 2
    assert "could be reached from" in result.output
