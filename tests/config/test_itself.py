"""Backends that are the gateway itself are refused, with the place where they stand."""

from pathlib import Path

import pytest

from gateway.config.itself import Listening
from gateway.config.load import load_routes
from gateway.config.problems import RoutesError

LOCAL = (Listening("127.0.0.1", 8080), Listening("127.0.0.1", 9000))


def routes(folder: Path, url: str) -> Path:
    path = folder / "routes.yaml"
    path.write_text(f"pools: {{p: {{backends: ['{url}']}}}}\nmodels: {{m: {{versions: {{v: {{pools: [p]}}}}}}}}\n")
    return path


@pytest.mark.parametrize(
    ("url", "listeners"),
    [
        ("http://127.0.0.1:8080", LOCAL),
        ("http://localhost:8080/engine", LOCAL),
        ("http://localhost:9000", LOCAL),
        ("http://127.0.0.1:8080", (Listening("0.0.0.0", 8080),)),
        ("http://[::1]:8080", (Listening("::", 8080),)),
        ("http://gateway.internal:80", (Listening("gateway.internal", 80),)),
    ],
)
def test_a_listener_of_its_own_is_no_backend(tmp_path: Path, url: str, listeners: tuple[Listening, ...]) -> None:
    with pytest.raises(RoutesError, match=r"routes\.yaml:1.*this gateway itself listens"):
        load_routes(routes(tmp_path, url), listeners=listeners)


@pytest.mark.parametrize(
    ("url", "listeners"),
    [
        ("http://127.0.0.1:8000", LOCAL),
        ("http://127.0.0.2:8080", LOCAL),
        ("http://engine:8080", LOCAL),
        ("http://127.0.0.1:8080", (Listening("10.0.0.1", 8080),)),
        ("http://127.0.0.1:8080", (Listening("127.0.0.1", 0),)),
        ("http://127.0.0.1:8080", ()),
    ],
)
def test_another_port_or_another_host_is(tmp_path: Path, url: str, listeners: tuple[Listening, ...]) -> None:
    assert load_routes(routes(tmp_path, url), listeners=listeners).pools["p"].backends[0].url == url
