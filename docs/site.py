"""What `make docs` does beside mkdocs: links into the checkout, and diagrams that need no script.

mkdocs loads this file as a hook (mkdocs.yml). The pages themselves are plain Markdown that also reads well on GitHub.
"""

import html
import re
from itertools import count
from pathlib import Path
from typing import Any

import mmdr
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[1]
SOURCES = "https://github.com/tidegate/tidegate/blob/main"

_numbers = count(1)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Have fences of mermaid drawn while the site is built, so that no page loads a script for them."""
    config.mdx_configs["pymdownx.superfences"] = {
        "custom_fences": [{"name": "mermaid", "class": "diagram", "format": diagram}]
    }
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Let links that leave docs/ lead to the sources."""

    def absolute(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        if not (ROOT / path).exists():
            raise PluginError(f"{page.file.src_uri} links to {path}, which does not exist")
        return f"]({SOURCES}/{path}{anchor})"

    return re.sub(r"\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)", absolute, markdown)


def on_post_page(output: str, *, page: Any, **_: object) -> str:
    """Refuse a page that would load anything from another host: the site works without a network."""
    loaded = r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)"
    if found := re.findall(loaded, output):
        raise PluginError(f"{page.file.src_uri} would load {', '.join(found)}")
    return output


def diagram(source: str, *_: object, **__: object) -> str:
    """Return a diagram as SVG, with names of its own, since the styles of inline SVG hold for the whole page."""
    drawn = mmdr.render(source).svg().replace("merman", f"diagram-{next(_numbers)}")
    drawn = drawn.replace("hsl(-120, 0%, 80%)", "#fff").replace("font-size:14px", "font-size:12px")
    return f'<div class="diagram" role="img" aria-label="{html.escape(source)}">{drawn}</div>'
