"""Backends that people have taken out of service: they get no new requests, and what they stream goes on."""

from collections.abc import Iterable

from gateway.backends.registry import Registry
from gateway.control.audit import Audit
from gateway.state.store import Document

KIND = "drained"


class Drained:
    """Which backends are drained, over reloads and restarts."""

    def __init__(self, registry: Registry, audit: Audit) -> None:
        self._registry = registry
        self._audit = audit
        self._changed: set[str] = set()

    def set(self, backend_id: str, *, drained: bool, actor: str, reason: str) -> None:
        """Drain or undrain; raises KeyError for a backend that the routes do not name."""
        backend = self._registry[backend_id]
        if backend.drained == drained:
            return
        self._registry.drain(backend_id, drained=drained)
        self._changed.add(backend_id)
        self._audit.record(actor, "drain" if drained else "undrain", f"backend {backend_id}", reason)

    def restore(self, documents: Iterable[Document]) -> None:
        """Take back what was kept over a restart."""
        for document in documents:
            if document.kind == KIND:
                self._registry.drain(document.name, drained=document.body == "true")

    def documents(self) -> list[Document]:
        """Return what changed since the last call."""
        changed, self._changed = self._changed, set()
        return [Document(KIND, name, "true" if name in self._registry.drained else "false") for name in changed]
