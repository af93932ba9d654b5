"""Loads route files: all of them, or none."""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.budget_checks import BudgetChecks
from gateway.config.build import build_table
from gateway.config.capacity_checks import CapacityChecks
from gateway.config.consistency import Consistency, Declared
from gateway.config.document import Document, DocumentError, parse_document
from gateway.config.entitlements import Entitlements
from gateway.config.explain import explain
from gateway.config.itself import Listening, find_itself
from gateway.config.objective_checks import ObjectiveChecks
from gateway.config.problems import Problem, RoutesError
from gateway.config.rollouts import short_holds
from gateway.config.schema import SECTIONS, RoutesFile
from gateway.config.sources import Source, read_sources
from gateway.config.steering import Steering
from gateway.config.table import RouteTable
from gateway.config.variables import Values, plain_values

_WHERE_POOLS_STAND = ("", "pools")


@dataclass(frozen=True, slots=True)
class LoadedRoutes:
    """A table that can be used, and what is odd about it."""

    table: RouteTable
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    """One route file after each step; `entries` is None when it is not valid."""

    document: Document
    values: Values
    entries: RoutesFile | None


def load_routes(
    path: Path, environ: Mapping[str, str] = os.environ, *, listeners: Collection[Listening] = ()
) -> RouteTable:
    """Load the table from the route file or folder at `path`. Raises RoutesError with every problem in every file."""
    return load(path, environ, listeners=listeners).table


def load(path: Path, environ: Mapping[str, str] = os.environ, *, listeners: Collection[Listening] = ()) -> LoadedRoutes:
    """Do as `load_routes`, with warnings. `table.sources` are the route files, then the files of secrets.

    `listeners` are the gateway's own, which no backend may be.
    """
    sources, problems = read_sources(path)
    files = [_validate(document, environ, problems) for document in _parse(sources, problems)]
    all_pools_known = not any(problem.path in _WHERE_POOLS_STAND for problem in problems)
    sections = {section: _declared(files, section, problems) for section in SECTIONS}
    pools, models, objectives = sections["pools"], sections["models"], sections["objectives"]
    classes, tenants = sections["classes"], sections["tenants"]
    consistency = Consistency(pools, models, all_pools_known)
    consistency.check()
    checks = ObjectiveChecks(objectives, models, classes, tenants)
    checks.check()
    admission = Entitlements(classes, tenants, models)
    admission.check()
    steering = Steering(models, pools, classes, tenants)
    steering.check()
    capacity = CapacityChecks(pools)
    capacity.check()
    budgets = BudgetChecks(sections["budgets"], pools, not any(each.path in ("", "budgets") for each in problems))
    budgets.check()
    told = {(each.file, each.line, each.column) for each in problems}
    found = budgets.problems + capacity.problems + consistency.problems + checks.problems
    found += admission.problems + steering.problems
    problems += (each for each in found if (each.file, each.line, each.column) not in told)
    problems += find_itself((*pools.values(), *models.values()), listeners)
    if not (models or problems):
        hint = "the smallest: `models: {my-model: {backends: [http://localhost:8000]}}`"
        problems.append(Problem(str(path), 1, 1, "", "no models: there is nothing to serve", hint))
    secret_files = {name for file in files for name in file.values.secret_files}
    if problems:
        raise RoutesError(problems, secret_files)
    table = _build(files, (*(source.file for source in sources), *sorted(secret_files)))
    warnings = [*consistency.warnings, *budgets.warnings, *capacity.warnings, *checks.warnings, *steering.warnings]
    warnings += short_holds(models, table)
    return LoadedRoutes(table, tuple(sorted(warnings)))


def _parse(sources: Iterable[Source], problems: list[Problem]) -> list[Document]:
    documents = []
    for source in sources:
        try:
            document = parse_document(source)
        except DocumentError as error:
            problems.append(error.problem)
        else:
            problems += document.problems
            documents.append(document)
    return documents


def _validate(document: Document, environ: Mapping[str, str], problems: list[Problem]) -> _File:
    values = plain_values(document, environ)
    problems += values.problems.values()
    entries = None
    try:
        entries = RoutesFile.model_validate(values.plain)
    except ValidationError as error:
        problems += explain(error, document, values.problems)
    return _File(document, values, entries)


def _declared(files: Iterable[_File], section: str, problems: list[Problem]) -> dict[str, Declared]:
    """Return what all files declare in one section, by name, valid or not."""
    merged: dict[str, Declared] = {}
    for file in files:
        entries = file.values.plain.get(section)
        for name, values in entries.items() if isinstance(entries, dict) else ():
            path = (section, name)
            if name in merged:
                message = f"the {_singular(section)} is already defined at {merged[name].where}"
                problems.append(file.document.problem(path, message, "rename one of the two", at_key=True))
            else:
                merged[name] = Declared(file.document, path, values)
    return merged


def _build(files: Iterable[_File], sources: Iterable[str]) -> RouteTable:
    valid = [file.entries for file in files if file.entries is not None]
    merged: dict[str, Any] = {
        section: {k: v for each in valid for k, v in getattr(each, section).items()} for section in SECTIONS
    }
    return build_table(RoutesFile.model_construct(**merged), sources)


def _singular(section: str) -> str:
    return section.removesuffix("es") if section.endswith("sses") else section.removesuffix("s")
