"""Write every generated page of the reference."""

from tests.docs.reference.pages import PAGES, ROOT

for path, page in PAGES.items():
    (ROOT / path).write_text(page())
