"""Every command of README.md and docs/ is run as it is written, or is listed with the reason why it cannot be."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.commands import COMMANDS, PAGES, ROOT, Command, blocks
from tests.docs.not_run import NOT_RUN, why_not
from tests.docs.scene import Scene, scene
from tests.house.test_readme import options

pytestmark = pytest.mark.anyio
TUTORIAL = "docs/first-canary.md"
"""Its commands build on each other and on what they print: test_tutorial.py follows it."""
RUN = [command for command in COMMANDS if command.page != TUTORIAL and not why_not(command.text)]
KNOWN = frozenset(("curl", "make", "printf", "promtool", "tidegate"))
"""Programs whose commands are run."""
ENDS = {
    ("docs/continuous-delivery.md", "tidegate gate llama-3.1-8b", 2): (1, "stop: the rollout of v2 is in progress at "),
    ("docs/routes.md", "tidegate check my-routes/", 1): (1, "models.llama.split.v3: this model has no such version"),
    ("docs/capacity.md", "tidegate capacity approve gpu --reason 'launch on Friday'", 1): (
        1,
        "no want of this pool",
    ),
    ("docs/slo.md", "tidegate slo suggest my-model", 1): (1, "too few data to propose anything yet"),
}
"""By page, command, and which of those on the page it is: its exit code, where that is not 0, and what it says."""


async def prepare(place: Scene, page: str, text: str, times: int) -> None:
    """Do what a page takes to have happened before a command."""
    if (page, text, times) in {
        ("docs/continuous-delivery.md", "tidegate gate llama-3.1-8b", 2),
        ("docs/canary.md", "tidegate canary status llama-3.1-8b", 1),
        ("docs/runbooks.md", "tidegate canary rollback MODEL", 1),
    }:
        await place.start_rollout()
    elif text == "tidegate capacity":
        await place.wants_known()


@pytest.mark.parametrize("page", sorted({command.page for command in RUN}))
async def test_the_commands_of_a_page_do_what_they_should(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: dict[str, int] = {}
    async with scene(tmp_path) as place:
        for text in (command.text for command in RUN if command.page == page):
            seen[text] = seen.get(text, 0) + 1
            await prepare(place, page, text, seen[text])
            status, said = ENDS.get((page, text, seen[text]), (0, ""))
            found, printed = await place.run(text)
            assert (found, said in printed) == (status, True), f"{text}: {found}\n{printed}"


def test_there_are_commands_of_every_kind() -> None:
    assert len(COMMANDS) > 100
    assert {re.split(r"[ /]", command.text)[0] for command in RUN} >= {"curl", "make", "tidegate"}


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_a_reason_not_to_run_a_command_is_about_one_that_is_there(pattern: str) -> None:
    assert any(re.fullmatch(pattern, command.text) for command in COMMANDS)


def test_an_expected_end_is_about_a_command_that_is_there() -> None:
    assert {(page, text) for page, text, _ in ENDS} <= {(command.page, command.text) for command in RUN}


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if each.text.startswith("python -m loadtest")], ids=lambda each: each.text
)
def test_a_load_test_has_the_parts_and_options_that_are_shown(command: Command) -> None:
    _, _, module, *rest = command.words
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    text = "".join(path.read_text() for path in Path(spec.origin).parent.rglob("*.py"))
    for word in rest:
        if re.fullmatch(r"(--)?[a-z-]+", word) and word != "docs":
            name = word.removeprefix("--").replace("-", "_")
            assert re.search(rf'"{word}"|def {name}\(|\b{name}: ', text), word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_shows_a_program_that_nobody_thought_of(page: Path) -> None:
    commands = [command.text for command in COMMANDS if command.page == str(page.relative_to(ROOT))]
    known = KNOWN | {"kill", "mkdir", "while"} if page == ROOT / TUTORIAL else KNOWN
    unknown = [text for text in commands if not why_not(text) and text.split()[0] not in known]
    assert unknown == [], "run it in tests/docs/scene.py, or say in tests/docs/not_run.py why it cannot be run"


def test_what_is_new_in_a_page_is_found() -> None:
    text = "Text.\n\n    tidegate sreve routes.yaml   # wrong\n\n"
    text += "```console\n$ curl -o x \\\n    http://y\nprinted\n$ ls\n```\n"
    assert sorted(blocks(text)) == ["curl -o x \\\n    http://y\nls\n", "tidegate sreve routes.yaml   # wrong\n"]


INLINE = sorted(
    {
        each.replace("\n", " ")
        for page in PAGES
        for each in re.findall(r"(?<!`)`(tidegate [^`]+)`(?!`)", page.read_text())
    }
)


@pytest.mark.parametrize("text", INLINE)
def test_a_command_within_a_sentence_has_the_parts_and_options_that_are_shown(text: str) -> None:
    options(shlex.split(text.partition("&&")[0])[1:])
