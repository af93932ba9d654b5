"""Backends that people took out of service stay out, over reloads and restarts, until somebody brings them back."""

from pathlib import Path

import pytest

from gateway.control.audit import Audit
from gateway.control.drained import KIND, Drained
from gateway.state.store import Document
from tests.control.tables import models, registered, written


@pytest.fixture
def audit() -> Audit:
    return Audit(lambda: 0.0)


def test_a_drained_backend_gets_no_new_requests_until_it_is_undrained(tmp_path: Path, audit: Audit) -> None:
    registry = registered(written(tmp_path / "routes.yaml", models("http://a:1", "http://b:1")))
    drained, (first, second) = Drained(registry, audit), registry
    drained.set(first.id, drained=True, actor="anna", reason="new driver")
    assert (first.drained, second.drained) == (True, False)
    drained.set(first.id, drained=False, actor="anna", reason="done")
    assert not first.drained
    assert [(record.action, record.subject, record.reason) for record in audit] == [
        ("drain", f"backend {first.id}", "new driver"),
        ("undrain", f"backend {first.id}", "done"),
    ]


def test_to_drain_what_is_drained_changes_and_records_nothing(tmp_path: Path, audit: Audit) -> None:
    registry = registered(written(tmp_path / "routes.yaml", models("http://a:1")))
    drained, (backend,) = Drained(registry, audit), registry
    for _ in range(2):
        drained.set(backend.id, drained=True, actor="anna", reason="")
    assert len(list(audit)) == 1
    assert len(drained.documents()) == 1


def test_a_backend_that_the_routes_do_not_name_cannot_be_drained(tmp_path: Path, audit: Audit) -> None:
    registry = registered(written(tmp_path / "routes.yaml", models("http://a:1")))
    with pytest.raises(KeyError):
        Drained(registry, audit).set("m/b:1", drained=True, actor="anna", reason="")
    assert list(audit) == []


def test_what_changed_is_saved_once_and_holds_after_a_restart(tmp_path: Path, audit: Audit) -> None:
    routes = written(tmp_path / "routes.yaml", models("http://a:1", "http://b:1"))
    registry = registered(routes)
    drained, (first, second) = Drained(registry, audit), registry
    drained.set(first.id, drained=True, actor="anna", reason="")
    drained.set(second.id, drained=True, actor="anna", reason="")
    drained.set(second.id, drained=False, actor="anna", reason="")
    documents = drained.documents()
    assert sorted((each.name, each.body) for each in documents) == [(first.id, "true"), (second.id, "false")]
    assert drained.documents() == []
    again = registered(routes)
    Drained(again, audit).restore([*documents, Document("rollout", first.id, "true")])
    assert [backend.drained for backend in again] == [True, False]


def test_a_backend_that_is_not_in_the_routes_for_a_while_comes_back_drained(tmp_path: Path, audit: Audit) -> None:
    registry = registered(written(tmp_path / "routes.yaml", models("http://b:1")))
    Drained(registry, audit).restore([Document(KIND, "m/a:1", "true")])
    registry.reconcile(written(tmp_path / "routes.yaml", models("http://a:1", "http://b:1")))
    assert {backend.id: backend.drained for backend in registry} == {"m/a:1": True, "m/b:1": False}
