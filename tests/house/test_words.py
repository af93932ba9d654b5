"""The words of the project: docs/glossary.md defines those in use, and private ones of earlier versions stay out."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("gateway", "loadtest", "tests") for path in (ROOT / folder).rglob("*.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
GLOSSARY = ROOT / "docs/glossary.md"

INSTEAD = {
    "Flight": "RequestLifecycle",
    "Order": "RoutedRequest",
    "Line": "AdmissionQueue",
    "Place": "QueueTicket",
    "Traveller": "Waiter",
    "Tools": "ProxyContext",
    "SloBook": "SloLedger",
    "Tracked": "Series",
    "Promise": "Objective",
    "promise": "objective, target or threshold",
    "promised": "objective, target or threshold",
    "Journey": "AttemptCallbacks",
    "Taker": "RequestSender",
    "Peers": "PoolState",
    "Standing": "EjectionState",
    "Judge": "OutlierDetector",
    "Roller": "RolloutController",
    "Trials": "PoolProbe",
    "Keeps": "PersistedState",
    "may_start": "start_blocker",
    "may_resume": "resume_blocker",
}
"""Names of the code that only this project understood, and what they are called."""


def names(source: str) -> Iterator[str]:
    """Yield the names in a source, without underscores in front, and what stands in backquotes in its text.

    A source without any word to be found is not taken apart, which takes a thousand times as long as to look.
    """
    if not re.search(rf"(?<![^\W_])(?:{'|'.join(INSTEAD)})\b", source):
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield token.string.lstrip("_")
        elif token.type in {tokenize.STRING, tokenize.COMMENT}:
            yield from quoted(token.string)


def quoted(text: str) -> Iterator[str]:
    """Yield the words in backquotes."""
    for code in re.findall(r"`([^`\n]+)`", text):
        yield from re.findall(r"\w+", code)


def old(words: Iterator[str]) -> dict[str, str]:
    """Return the private words among these, with what to call each instead."""
    return {word: INSTEAD[word] for word in words if word in INSTEAD}


def terms() -> list[str]:
    return re.findall(r"\*\*(.+?)\*\*", GLOSSARY.read_text())


def plain(text: str) -> str:
    """Return text with the spellings of a term made one: `half_open`, half-open and half open."""
    return re.sub(r"[-_\s]+", " ", text).lower()


def test_no_source_uses_a_private_word() -> None:
    sources = [path for path in SOURCES if path != Path(__file__)]
    found = {str(path.relative_to(ROOT)): old(names(path.read_text())) for path in sources}
    assert {path: words for path, words in found.items() if words} == {}


def test_no_page_uses_a_private_word() -> None:
    found = {path.name: old(quoted(path.read_text())) for path in PAGES}
    assert {page: words for page, words in found.items() if words} == {}


def test_a_private_word_is_found() -> None:
    source = 'class _Flight:\n    """In order, as an `Order` says."""\n\nline = "Line"  # a `Place`\n'
    assert set(old(names(source))) == {"Flight", "Order", "Place"}


def test_a_term_is_defined_once() -> None:
    found = [plain(term) for term in terms()]
    assert len(found) > 50
    assert sorted(found) == sorted(set(found))


def test_every_term_is_in_use() -> None:
    pages = [path for path in PAGES if path != GLOSSARY]
    used = plain("\n".join(path.read_text() for path in (*SOURCES, *pages)))
    assert [term for term in terms() if not re.search(rf"\b{re.escape(plain(term))}", used)] == []
