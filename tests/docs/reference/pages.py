"""The generated pages by their path: what each of them should say now."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.docs.reference import admin_api, command_line, errors, paths, route_keys

ROOT: Final = Path(__file__).parents[3]
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/reference-command-line.md": command_line.page,
    "docs/reference-routes.md": route_keys.page,
    "docs/reference-admin-api.md": admin_api.page,
    "docs/reference-errors.md": errors.page,
    "docs/reference-paths.md": paths.page,
}
