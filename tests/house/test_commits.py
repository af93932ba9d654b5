"""Subjects of commits keep to CONTRIBUTING.md: those of this branch, and proof that what is wrong with one is found."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 72
LAST = 10
"""So many commits are looked at where the branch that this one came from is not known."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit by its short name; `parents` are those of its parents, "" at the root."""

    name: str
    parents: str
    subject: str

    @property
    def fault(self) -> str:
        """What is wrong with its subject, "" where nothing is."""
        if not self.subject:
            return "has no subject"
        if len(self.subject) > LONGEST:
            return f"has a subject of {len(self.subject)} characters: {self.subject}"
        return f"ends its subject with a full stop: {self.subject}" if self.subject.endswith(".") else ""


def git(folder: Path, *arguments: str) -> str:
    """Return what git prints about a folder; raises OSError without git, CalledProcessError where it fails."""
    # A hook runs with variables that name a repository; and in a container, the checkout may be another user's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ("git", "-c", "safe.directory=*", "-C", str(folder), *arguments)
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=True)
    return done.stdout


def commits_of_branch(folder: Path) -> list[Commit] | None:
    """Return the commits that origin's default branch does not have, or the last ten where that is not known.

    The newest comes first. None where there is no history to look at: without git, outside a checkout (an archive's
    folder may lie inside another one), in a shallow clone, before the first commit.
    """
    try:
        shallow, inside = git(folder, "rev-parse", "--is-shallow-repository", "--show-prefix").split("\n")[:2]
        if shallow == "true" or inside:
            return None
        # Merges have subjects of git's, or of the service that runs CI, which may be longer.
        log = ("log", "--no-merges", "--no-show-signature", "--encoding=UTF-8", "--format=%h%x00%p%x00%s")
        lines = git(folder, *log, *_since(folder)).split("\n")
    except (OSError, subprocess.CalledProcessError):
        return None
    return [Commit(*line.split("\0")) for line in lines if line]


def _since(folder: Path) -> tuple[str, ...]:
    try:
        git(folder, "rev-parse", "--verify", "refs/remotes/origin/HEAD^{commit}")
    except subprocess.CalledProcessError:
        return (f"-{LAST}", "HEAD")
    return ("HEAD", "--not", "refs/remotes/origin/HEAD")


def complaint(commits: list[Commit]) -> str:
    """Return which of the commits, the newest first, have a faulty subject, and how to reword them; "" if none has."""
    faulty = [commit for commit in commits if commit.fault]
    if not faulty:
        return ""
    oldest = faulty[-1]
    remedy = "git commit --amend"
    if oldest != commits[0]:
        start = f"{oldest.name}^" if oldest.parents else "--root"
        remedy = f"git rebase -i {start}, with `reword` for `pick` before each of them"
    return "\n".join(
        [
            f"A commit's subject has 1 to {LONGEST} characters and no full stop at its end (CONTRIBUTING.md, Commits).",
            *(f"  {commit.name} {commit.fault}" for commit in faulty),
            f"To reword: {remedy}",
        ]
    )


def test_every_subject_of_this_branch_is_as_it_should_be() -> None:
    commits = commits_of_branch(ROOT)
    if commits is None:
        pytest.skip("not a git checkout with its history")
    if said := complaint(commits):
        pytest.fail(said, pytrace=False)


class Repository:
    """A repository of a test's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet")

    def git(self, *arguments: str) -> None:
        settings = ("user.name=A", "user.email=a@example.com", "commit.gpgSign=false", f"core.hooksPath={os.devnull}")
        git(self.folder, *(word for each in settings for word in ("-c", each)), *arguments)

    def commit(self, *subjects: str) -> None:
        for subject in subjects:
            self.git("commit", "--quiet", "--allow-empty", "--allow-empty-message", "--no-verify", "-m", subject)

    def clone(self, folder: Path, *options: str) -> "Repository":
        self.git("clone", "--quiet", *options, self.folder.as_uri(), str(folder))
        clone = object.__new__(Repository)
        clone.folder = folder
        return clone

    @property
    def faults(self) -> list[str]:
        commits = commits_of_branch(self.folder)
        assert commits is not None
        return [commit.fault for commit in commits if commit.fault]

    @property
    def told(self) -> str:
        return complaint(commits_of_branch(self.folder) or [])


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    if shutil.which("git") is None:
        pytest.skip("no git")
    return Repository(tmp_path / "repository")


class TestSubjects:
    @pytest.mark.parametrize("subject", ["Say it", "x" * LONGEST, "é" * LONGEST, "Read v1.2, and `a.`"])
    def test_good_ones_pass(self, repository: Repository, subject: str) -> None:
        repository.commit(subject)
        assert repository.told == ""

    @pytest.mark.parametrize(
        ("subject", "fault"),
        [
            ("x" * 73, f"has a subject of 73 characters: {'x' * 73}"),
            ("x" * 40 + "\n" + "y" * 40, f"has a subject of 81 characters: {'x' * 40} {'y' * 40}"),
            ("", "has no subject"),
            ("Say it.", "ends its subject with a full stop: Say it."),
        ],
        ids=["too long", "no empty line after it", "empty", "full stop"],
    )
    def test_bad_ones_are_found(self, repository: Repository, subject: str, fault: str) -> None:
        repository.commit(subject)
        assert repository.faults == [fault]

    def test_what_follows_the_empty_line_is_not_the_subjects(self, repository: Repository) -> None:
        repository.commit(f"Say it\n\n{'y' * 100}.")
        assert repository.faults == []

    def test_those_that_git_writes_for_merges_may_be_longer(self, repository: Repository) -> None:
        repository.commit("One")
        repository.git("checkout", "--quiet", "-b", "other")
        repository.commit("Two")
        repository.git("checkout", "--quiet", "-")
        repository.git("merge", "--quiet", "--no-ff", "other", "-m", f"Merge {'1' * 40} into {'2' * 40}")
        assert repository.faults == []


class TestWhichCommits:
    def test_those_that_origins_default_branch_has_not(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("Before.")
        clone = repository.clone(tmp_path / "clone")
        assert clone.faults == [], "they cannot be changed any more"
        clone.git("checkout", "--quiet", "-b", "mine")
        clone.commit(*("Mine." for _ in range(LAST + 1)))
        assert len(clone.faults) == LAST + 1

    def test_the_last_ten_where_there_is_no_origin(self, repository: Repository) -> None:
        repository.commit("Eleventh.", "Tenth.", *("Fine" for _ in range(LAST - 1)))
        assert repository.faults == ["ends its subject with a full stop: Tenth."]

    def test_the_last_ten_where_origins_default_branch_is_not_known(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        repository.commit("Before.")
        clone = repository.clone(tmp_path / "clone")
        clone.git("remote", "set-head", "origin", "--delete")
        assert clone.faults == ["ends its subject with a full stop: Before."]

    def test_none_in_a_shallow_clone(self, repository: Repository, tmp_path: Path) -> None:
        repository.commit("One.", "Two.")
        assert commits_of_branch(repository.clone(tmp_path / "clone", "--depth=1").folder) is None

    def test_none_before_the_first(self, repository: Repository) -> None:
        assert commits_of_branch(repository.folder) is None

    def test_none_outside_a_checkout(self, tmp_path: Path) -> None:
        assert commits_of_branch(tmp_path) is None

    def test_none_in_an_archive_that_lies_inside_another_checkout(self, repository: Repository) -> None:
        repository.commit("Theirs.")
        archive = repository.folder / "tidegate-0.1.0"
        archive.mkdir()
        assert commits_of_branch(archive) is None

    def test_none_without_git(self, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
        repository.commit("One.")
        monkeypatch.setenv("PATH", str(repository.folder))
        assert commits_of_branch(repository.folder) is None

    def test_those_of_this_checkout_whatever_a_hook_sets(
        self, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository.commit("One.")
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
        assert len(repository.faults) == 1


class TestRemedies:
    def test_the_last_commit_is_amended(self, repository: Repository) -> None:
        repository.commit("One", "Two.")
        assert repository.told.endswith("\nTo reword: git commit --amend")

    def test_earlier_ones_are_rebased_from_the_oldest_on(self, repository: Repository) -> None:
        repository.commit("One", "Two.", "Three.", "Four")
        _, three, two, _ = commits_of_branch(repository.folder) or []
        assert repository.told.split("\n")[1:] == [
            f"  {three.name} ends its subject with a full stop: Three.",
            f"  {two.name} ends its subject with a full stop: Two.",
            f"To reword: git rebase -i {two.name}^, with `reword` for `pick` before each of them",
        ]

    def test_the_first_of_all_needs_the_root(self, repository: Repository) -> None:
        repository.commit("One.", "Two")
        assert "To reword: git rebase -i --root, with" in repository.told
