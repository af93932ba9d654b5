"""No class of the data path does more than one can see at once: at most so many fields and methods."""

import ast
from typing import NamedTuple, TypeGuard

import pytest

from hatch_build import PACKAGE, modules, sources

MOST_FIELDS, MOST_METHODS = 12, 20
RECORDS = {
    "exchange.Exchange": "what is known of one request, written by whichever part of the path learns it",
    "policy.canary.plan.Plan": "the settings of one rollout, frozen",
    "policy.capacity.want.Memory": "what one decision about capacity leaves to the next, frozen",
    "policy.capacity.want.PoolLoad": "what is known of a pool at one time, frozen",
    "policy.capacity.want.Rules": "the settings of one pool's capacity, frozen",
    "policy.capacity.want.Want": "what a pool wants and why, frozen",
    "policy.slo.objective.Objective": "the targets of a model, frozen",
    "proxy.spec.RequestSpec": "what one request asks for, frozen",
    "wire.guard.Head": "the head of one request, frozen",
}
"""Plain records: they hold data, and decide nothing."""


class Size(NamedTuple):
    """The fields and methods of one class."""

    fields: int
    methods: int


def size(found: ast.ClassDef) -> Size:
    """Count what a class declares or assigns on itself; `__init__` and `__repr__` are no methods to be learnt."""
    fields: set[str] = set()
    methods = 0
    for part in found.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            fields.add(part.target.id)
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            methods += part.name not in {"__init__", "__repr__"}
            fields.update(node.attr for node in ast.walk(part) if assigns_itself(node))
    return Size(len(fields), methods)


def assigns_itself(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Whether this stores an attribute of `self`."""
    if not (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)):
        return False
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def sizes() -> dict[str, Size]:
    """Return the size of each class of the data path and of the policies, by its name below the package."""
    found = {}
    for path in (*modules(), *sources(("policy/capacity",))):
        module = path.removesuffix(".py").replace("/", ".")
        for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
            if isinstance(node, ast.ClassDef):
                found[f"{module}.{node.name}"] = size(node)
    return found


LARGE = {name: size for name, size in sizes().items() if size.fields > MOST_FIELDS or size.methods > MOST_METHODS}


def test_no_class_has_more_fields_or_methods_than_one_can_see_at_once() -> None:
    new = {name: size for name, size in LARGE.items() if name not in RECORDS}
    assert not new, f"split these, or list a plain record in RECORDS: {new}"


def test_every_exception_is_needed() -> None:
    unneeded = RECORDS.keys() - LARGE.keys()
    assert not unneeded, f"take these off the list, they are small enough: {sorted(unneeded)}"


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_records_have_few_methods(name: str) -> None:
    assert LARGE[name].methods <= 7, "it decides something"


def test_fields_and_methods_are_counted() -> None:
    source = """
class Counter:
    declared: int = 0
    def __init__(self):
        self.assigned = 0
        other.no = 1
    def __repr__(self):
        return ""
    @property
    def read(self):
        return self.only_read
    async def write(self):
        self.assigned, self.too = 1, 2
"""
    (found,) = ast.parse(source).body
    assert isinstance(found, ast.ClassDef)
    assert size(found) == Size(fields=3, methods=2)
