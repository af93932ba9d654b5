"""A redis-server of a test's own."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtest.bench.redis_server import RedisServer

__all__ = ["RedisServer", "redis_server"]


@contextmanager
def redis_server(folder: Path, *options: str, before: Sequence[str] = ()) -> Iterator[RedisServer]:
    """Run one until the block ends; without the program the test is skipped."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder)
    server.start(*options, before=before)
    try:
        yield server
    finally:
        server.stop()
