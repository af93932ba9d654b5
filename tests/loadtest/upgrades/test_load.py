"""What is counted while a gateway is disturbed."""

import shutil
from pathlib import Path

import pytest

from loadtest.bench.peers import free_port
from loadtest.upgrades.load import Load, wrk
from loadtest.upgrades.metrics import requests_in


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on this machine")
def test_where_nothing_listens_a_connect_is_refused(tmp_path: Path) -> None:
    port = free_port()
    assert wrk(tmp_path, port, seconds=1, connections=1, timeout=1, close=False) == Load(refused=1)


def test_requests_are_added_up_over_labels_and_replicas() -> None:
    text = (
        '# TYPE tidegate_requests counter\ntidegate_requests_total{model="a"} 3\ntidegate_requests_total{model="b"} 4\n'
    )
    assert requests_in([text, text]) == 14
