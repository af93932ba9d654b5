from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.wire.edge import Edge
from tests.proxy.front import Front, Opened


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Open fronts, and close them in the end."""
    fronts: list[Front] = []

    def made(routes: dict[str, Any], edge: Edge | None = None) -> Front:
        fronts.append(Front(tmp_path, routes, edge))
        return fronts[-1]

    yield made
    for front in fronts:
        front.close()
