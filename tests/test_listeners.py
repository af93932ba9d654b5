"""What the system lets a process hold."""

import pytest

from gateway.listeners import bounded
from gateway.wire.guard import Limits


@pytest.mark.parametrize(
    ("descriptors", "backends", "connections"),
    [
        (1024, 0, 384),
        (1024, 1, 382),
        (1024, 150, 84),
        (1024, 1000, 16),
        (1 << 20, 1000, 100_000),
    ],
)
def test_connections_leave_descriptors_for_backends(descriptors: int, backends: int, connections: int) -> None:
    assert bounded(Limits(), descriptors, range(backends)).connections == connections


def test_fewer_connections_may_be_asked_for() -> None:
    assert bounded(Limits(connections=7), 1 << 20, ()).connections == 7
