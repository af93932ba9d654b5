"""What asks each kind of origin."""

import pytest

from gateway.config.origins import DnsOrigin, FileOrigin, InferencePoolOrigin, KubernetesOrigin
from gateway.discovery.kubernetes.cluster import ClusterSettings
from gateway.discovery.sources import SourceFactory
from tests.waiting import HandClock


def test_each_kind_has_its_source() -> None:
    make = SourceFactory(HandClock(), kubernetes=ClusterSettings("http://127.0.0.1:8001"))
    origins = (DnsOrigin("a", 1), FileOrigin("t.json"), KubernetesOrigin("s"), InferencePoolOrigin("p"))
    kinds = [type(make(origin)).__name__ for origin in origins]
    assert kinds == ["DnsSource", "FileSource", "KubernetesSource", "InferencePoolSource"]


def test_outside_a_cluster_that_is_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    source = SourceFactory(HandClock())(KubernetesOrigin("s"))
    assert "KUBERNETES_SERVICE_HOST" in source.problem
    assert source.errors == 0
    assert repr(source).startswith("<Unasked: ")
