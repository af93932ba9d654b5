"""Every whole route file that a page shows can be served."""

import re
from pathlib import Path

import pytest

from gateway.config.load import load
from tests.docs.commands import PAGES, ROOT

FILES = [
    pytest.param(text, id=str(page.relative_to(ROOT)))
    for page in PAGES
    for text in re.findall(r"(?ms)^```yaml\n(# routes\.yaml.*?)^```$", page.read_text())
]
VARIABLES = {"VLLM_API_KEY": "secret", "ACME_KEY_SHA256": "0" * 64}


def test_there_are_some() -> None:
    assert len(FILES) > 5


@pytest.mark.parametrize("text", FILES)
def test_a_route_file_of_a_page_loads_without_warnings(text: str, tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(text)
    assert load(path, VARIABLES).warnings == ()
