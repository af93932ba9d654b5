"""Asking a running gateway through its admin listener, and saying so when it refuses."""

import getpass
import json
import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn, TypeVar

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.tables import PlainTable

_WIDTH_IN_FILES = 160
_NOT_FOUND, _UNAVAILABLE = 404, 503
errors = Console(stderr=True, highlight=False, soft_wrap=True)

Admin = Annotated[
    str,
    typer.Option(
        help="Admin listener of the gateway. Its token is read from TIDEGATE_ADMIN_TOKEN.", envvar="TIDEGATE_ADMIN"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit record.", show_default="none")]
ADMIN = "http://127.0.0.1:9000"
Found = TypeVar("Found")
_GIVE = f"give its admin listener with --admin (default: {ADMIN})"


class NoAnswerError(Exception):
    """The gateway cannot be asked, or refuses; the message says why.

    `code` is that of the gateway's error, "" where it told none.
    """

    def __init__(self, words: str, code: str = "") -> None:
        super().__init__(words)
        self.code = code


class NoAnswerYetError(NoAnswerError):
    """The gateway is there, but has not answered: another try may do better."""


def ask(admin: str, method: str, path: str, **request: Any) -> Any:
    """Return the answer's JSON; ends the command with 1, and the gateway's own words, when it refuses."""
    return found_by(lambda: answer_of(admin, method, path, **request))


def found_by(look: Callable[[], Found]) -> Found:
    """Return what is found; ends the command with 1, and the gateway's own words, when it refuses."""
    try:
        return look()
    except NoAnswerError as error:
        end(str(error))


def ask_now(admin: str, method: str, path: str, **request: Any) -> Any:
    """Return the answer's JSON as `ask` does; raises NoAnswerYetError where another try may do better."""
    try:
        return answer_of(admin, method, path, **request)
    except NoAnswerYetError:
        raise
    except NoAnswerError as error:
        end(str(error))


def answer_of(admin: str, method: str, path: str, **request: Any) -> Any:
    """Return the answer's JSON; raises NoAnswerError, in the gateway's own words where it refuses.

    A token is taken from TIDEGATE_ADMIN_TOKEN; for TLS, an authority from TIDEGATE_ADMIN_CA, and a certificate of its
    own from TIDEGATE_ADMIN_CERTIFICATE with TIDEGATE_ADMIN_KEY, each a PEM file.
    """
    return _read(_answer(method, admin, path, **request), admin)


def text_of(admin: str, path: str, **request: Any) -> str:
    """Return an answer that is no JSON, as metrics are none; raises NoAnswerError as `answer_of` does."""
    answer = _answer("GET", admin, path, **request)
    if not answer.is_success:
        _read(answer, admin)
    return answer.text


def _read(answer: httpx.Response, admin: str) -> Any:
    """Return an answer's JSON; raises NoAnswerError for one that is none of an admin listener, or refuses."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    admin = _url(admin)
    if answer.status_code == _NOT_FOUND and "x-request-id" in answer.headers:
        raise NoAnswerError(f"{admin} is the gateway's data port: {_GIVE}")
    problem = body.get("error") if isinstance(body, dict) else None
    told = problem if isinstance(problem, dict) and isinstance(problem.get("code"), str) else {}
    if not told and (answer.status_code == _NOT_FOUND or (answer.is_success and body is None)):
        raise NoAnswerError(
            f"{admin} is not the admin listener of a gateway: give that with --admin (default: {ADMIN})"
        )
    if told.get("code") == "invalid_admin_token":
        wrong = "TIDEGATE_ADMIN_TOKEN is not its token" if _token() else "set TIDEGATE_ADMIN_TOKEN"
        raise NoAnswerError(f"the admin listener at {admin} requires a token: {wrong}")
    if not answer.is_success:
        words = told.get("message") or f"the gateway answered with status {answer.status_code}"
        if answer.status_code == _UNAVAILABLE:
            raise NoAnswerYetError(words)
        raise NoAnswerError(words, told.get("code", ""))
    return body


def _url(admin: str) -> str:
    return (admin if "://" in admin else f"http://{admin}").rstrip("/")


def _token() -> str:
    return os.environ.get("TIDEGATE_ADMIN_TOKEN", "").strip()


def reached(admin: str) -> tuple[str, dict[str, Any]]:
    """Return the URL of an admin listener, and how httpx asks it; raises NoAnswerError for a token that is none."""
    token = _token()
    if not (token.isascii() and token.isprintable()):
        raise NoAnswerError("TIDEGATE_ADMIN_TOKEN contains a character that is not allowed in a header")
    headers = {"x-gateway-actor": _actor()} | ({"authorization": f"Bearer {token}"} if token else {})
    url = _url(admin)
    return url, {"headers": headers, "verify": _tls() if url.startswith("https:") else False}


def _answer(method: str, admin: str, path: str, **request: Any) -> httpx.Response:
    """Return what is answered, whatever it is."""
    admin, options = reached(admin)
    try:
        return httpx.request(method, f"{admin}{path}", **{"timeout": 10.0, "trust_env": False} | options | request)
    except httpx.TimeoutException as error:
        words = f"the gateway at {admin} did not answer in time: {error or type(error).__name__}"
        raise NoAnswerYetError(words) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        # A listener with TLS closes what begins as plain HTTP.
        closed = isinstance(error, httpx.RemoteProtocolError) and not options["verify"]
        hint = ", as https:// if it speaks TLS" if closed else ""
        words = f"no gateway answers at {admin}: {_words(error)}; give its admin listener with --admin{hint}"
        if isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)):
            raise NoAnswerYetError(words) from None
        raise NoAnswerError(words) from None


def _words(error: Exception) -> str:
    """Return what an error says, without its number and the stop at its end."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)).rstrip(".")


def end(words: str) -> NoReturn:
    """End the command with 1, and say why."""
    errors.print(f"tidegate: {words}", markup=False)
    raise typer.Exit(1) from None


def _tls() -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=os.environ.get("TIDEGATE_ADMIN_CA"))
        certificate = os.environ.get("TIDEGATE_ADMIN_CERTIFICATE")
        if certificate:
            context.load_cert_chain(certificate, os.environ.get("TIDEGATE_ADMIN_KEY"))
    except (OSError, ValueError) as error:
        raise NoAnswerError(f"a file in TIDEGATE_ADMIN_CA, _CERTIFICATE or _KEY cannot be used: {error}") from None
    return context


def console() -> Console:
    """Return where results are printed: as wide as the terminal, or wide enough for a file."""
    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = _WIDTH_IN_FILES
    return found


def tell(found: Any, words: str, *, as_json: bool) -> None:
    """Print what was done: what the gateway answered, or a sentence."""
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        console().print(Text(words), soft_wrap=True)


def table(columns: list[str], rows: list[list[str]], least: Sequence[str] = ()) -> Table:
    """Return a plain table; a terminal that is too narrow for it lacks the columns of `least`, the first one first."""
    made = PlainTable(columns, least)
    for row in rows:
        made.row(*row)
    return made


def _actor() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return f"uid {os.getuid()}@{socket.gethostname()}"
