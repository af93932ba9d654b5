"""What `tidegate upgrade` makes of a gateway that is slow, that answers nothing for a while, or has a wrong file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typer.testing import CliRunner, Result

from gateway.cli.commands import app
from loadtest.bench.collector import serving

Answer = tuple[int, dict[str, Any]] | None
"""A status and a body; None closes the connection instead."""
NO_WORKER: Answer = (503, {"error": {"code": "no_worker", "message": "no worker answers"}})


def status(generation: int, upgrade: str = "", problems: tuple[str, ...] = ()) -> Answer:
    return 200, {"generation": generation, "upgrade": upgrade, "routes": {"problems": list(problems)}}


@contextmanager
def admin_listener(*answers: Answer) -> Iterator[str]:
    """Give these answers one after the other, the last one for ever; an upgrade begins whenever it is asked for."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer is not None:
                self._answer(*answer)

        def do_POST(self) -> None:
            self._answer(202, {})

        def _answer(self, code: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
            """Say nothing."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler), poll=0.01) as url:
        yield url


def upgrade(*answers: Answer, timeout: str = "30") -> Result:
    with admin_listener(*answers) as url:
        return CliRunner().invoke(app, ["upgrade", "--admin", url, "--timeout", timeout])


def test_a_gateway_that_is_too_busy_to_answer_is_asked_again() -> None:
    result = upgrade(status(1), NO_WORKER, None, status(1, "in progress"), NO_WORKER, status(2))
    assert (result.exit_code, result.output) == (0, "generation 2 serves\n")


def test_a_gateway_that_never_answers_again_is_named_with_its_last_words() -> None:
    result = upgrade(status(1), NO_WORKER, timeout="1")
    assert result.exit_code == 1
    words = "the new workers do not serve after 1 s (no worker answers); see `tidegate status` and the gateway's log"
    assert result.stderr == f"tidegate: {words}\n"


def test_a_failure_says_why() -> None:
    result = upgrade(status(1), status(1, "failed: worker 9 ended"))
    assert (result.exit_code, result.stderr) == (1, "tidegate: the upgrade failed: worker 9 ended\n")


def test_an_upgrade_with_a_wrong_route_file_says_that_the_previous_routes_serve_and_fails() -> None:
    result = upgrade(status(1), status(2, problems=("routes.yaml:3:5: unknown key",)))
    assert result.exit_code == 1
    assert result.stdout == "generation 2 serves\n"
    assert result.stderr == (
        "tidegate: it serves the previous routes, since a file is wrong: routes.yaml:3:5: unknown key\n"
    )
