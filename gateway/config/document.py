"""YAML text as a tree that knows its lines.

The schema decides what a scalar means, not its spelling: every scalar is text, so a version `1.10` or a model `no`
stays what it is. Built from the parser's events, because loading them the usual way drops duplicate keys and recurses.
"""

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import yaml

from gateway.config.problems import KeyPath, Problem, path_text
from gateway.config.sources import Source

MAX_DEPTH = 32
MAX_SIZE = 200_000
_CHARACTERS_PER_UNIT = 64
_LOADER: type = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_MERGE_KEY = "<<"
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One scalar as written. `quoted` tells `""` from nothing."""

    line: int
    column: int
    text: str
    quoted: bool = False
    depth: int = 1

    @property
    def size(self) -> int:
        """A measure of the memory that the value takes once aliases are expanded."""
        return 1 + len(self.text) // _CHARACTERS_PER_UNIT

    @property
    def is_null(self) -> bool:
        """True when the file gives no value here."""
        return not self.quoted and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list."""

    line: int
    column: int
    items: tuple["Node", ...]
    size: int
    depth: int


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping; `keys` holds the key itself, for its place, beside the value."""

    line: int
    column: int
    entries: dict[str, tuple[ScalarNode, "Node"]]
    size: int
    depth: int


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


@dataclass(frozen=True, slots=True)
class Document:
    """One route file as a tree. `problems` are those that leave the rest of the tree readable."""

    file: str
    root: MappingNode
    problems: tuple[Problem, ...] = ()

    def lookup(self, path: KeyPath) -> tuple[KeyPath, ScalarNode | None, Node]:
        """Return the part of `path` that exists, with the key it ends in, if any, and its value."""
        key: ScalarNode | None = None
        node: Node = self.root
        for depth, part in enumerate(path):
            if isinstance(node, MappingNode) and isinstance(part, str) and part in node.entries:
                key, node = node.entries[part]
            elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.items):
                key, node = None, node.items[part]
            else:
                return path[:depth], key, node
        return path, key, node

    def problem(self, path: KeyPath, message: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """Return a problem at `path`: at its value if that is a scalar, else (or with `at_key`) at its key."""
        line, column = self._place(path, at_key=at_key)
        return Problem(self.file, line, column, path_text(path), message, hint)

    def where(self, path: KeyPath) -> str:
        """Return `file:line` of the key or list item that `path` ends in."""
        return f"{self.file}:{self._place(path, at_key=True)[0]}"

    def _place(self, path: KeyPath, *, at_key: bool) -> tuple[int, int]:
        _, key, node = self.lookup(path)
        place = key if key is not None and (at_key or not isinstance(node, ScalarNode)) else node
        return place.line, place.column


class DocumentError(Exception):
    """A text that is no tree at all; holds the one problem with it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def parse_document(source: Source) -> Document:
    """Parse one file. Raises DocumentError if its text is not one YAML mapping of bounded depth and size."""
    composer = _Composer(source.file)
    try:
        for event in yaml.parse(source.text, Loader=_LOADER):
            composer.feed(event)
    except yaml.MarkedYAMLError as error:
        raise DocumentError(_syntax_problem(source, error)) from None
    except yaml.YAMLError as error:
        raise DocumentError(Problem(source.file, 1, 1, "", f"is not YAML: {error}")) from None
    root = composer.root
    if root is None or (isinstance(root, ScalarNode) and root.is_null):
        hint = "the smallest that works: `models: {my-model: {backends: [http://localhost:8000]}}`"
        raise DocumentError(Problem(source.file, 1, 1, "", "is empty", hint))
    if not isinstance(root, MappingNode):
        kind = "a list" if isinstance(root, SequenceNode) else "a single value"
        hint = "begin with the keys `pools:` and `models:`"
        raise DocumentError(Problem(source.file, root.line, root.column, "", f"is {kind}, not a mapping", hint))
    return Document(source.file, root, tuple(composer.problems))


def _syntax_problem(source: Source, error: yaml.MarkedYAMLError) -> Problem:
    line, column = _position(error.problem_mark)
    lines = _LINE_BREAK.split(source.text)
    ends_early = line >= len(lines)
    if len(lines) > 1 and not lines[-1]:
        lines.pop()  # what comes after the last line break is no line to an editor
    if line > len(lines):
        line, column = len(lines), len(lines[-1]) + 1
    text = lines[line - 1]
    message = f"is not YAML: {error.problem}"
    if error.context and error.context_mark:
        message += f" {error.context} that begins at line {error.context_mark.line + 1}"
    hint = "check the indentation, and quote values that contain `: `, ` #` or brackets"
    if "\t" in text[: len(text) - len(text.lstrip())]:
        message, hint = "this line is indented with a tab", "indent YAML with spaces"
    elif "${" in text:
        hint = 'inside { } and [ ], put variables in quotes: `"${NAME}"`'
    elif ends_early:
        hint = "the file ends too early; was it written completely?"
    return Problem(source.file, line, column, "", message, hint)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet; a mapping's keys and values alternate in `children`."""

    event: yaml.CollectionStartEvent
    children: list[Node] = field(default_factory=list)


class _Composer:
    """Builds nodes from events with a stack of its own, so that depth is a number and not a recursion."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._open: list[_Open] = []

    def feed(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent() if self.root is not None:
                self._fail(event, "starts a second document", "one document per file: delete the `---`")
            case yaml.AliasEvent():
                node = self._anchors.get(event.anchor or "")
                if node is None:
                    self._fail(
                        event, f"there is no anchor `&{event.anchor}`", "define the anchor above, or quote the `*`"
                    )
                self._add(node)
            case yaml.ScalarEvent():
                self._check_tag(event, event.tag)
                scalar = ScalarNode(*_position(event.start_mark), event.value, quoted=bool(event.style))
                self._finish(event, scalar)
            case yaml.CollectionStartEvent():
                self._check_tag(event, event.tag)
                if len(self._open) >= MAX_DEPTH:
                    self._fail(event, f"is nested deeper than {MAX_DEPTH} levels")
                self._open.append(_Open(event))
            case yaml.CollectionEndEvent():
                opened = self._open.pop()
                is_mapping = isinstance(opened.event, yaml.MappingStartEvent)
                self._finish(opened.event, self._mapping(opened) if is_mapping else self._sequence(opened))

    def _finish(self, event: yaml.NodeEvent, node: Node) -> None:
        if node.size > MAX_SIZE:
            self._fail(event, "is too large once its aliases are expanded")
        if node.depth > MAX_DEPTH:
            self._fail(event, f"is nested deeper than {MAX_DEPTH} levels once its aliases are expanded")
        if event.anchor:
            self._anchors[event.anchor] = node
        self._add(node)

    def _add(self, node: Node) -> None:
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node

    def _sequence(self, opened: _Open) -> SequenceNode:
        return SequenceNode(*_position(opened.event.start_mark), tuple(opened.children), *_extent(opened.children))

    def _mapping(self, opened: _Open) -> MappingNode:
        entries: dict[str, tuple[ScalarNode, Node]] = {}
        merged: list[Node] = []
        pairs = iter(opened.children)
        for key, value in zip(pairs, pairs, strict=True):
            if not isinstance(key, ScalarNode) or key.is_null:
                self._note(key, (), "a key must be a single value", "write `name: value`")
            elif key.text == _MERGE_KEY and not key.quoted:
                merged += value.items if isinstance(value, SequenceNode) else (value,)
            elif key.text in entries:
                message = f"this key is already defined at {self._file}:{entries[key.text][0].line}"
                self._note(key, (key.text,), message, "keep one of the two")
            else:
                entries[key.text] = (key, value)
        for node in merged:
            if isinstance(node, MappingNode):
                entries = node.entries | entries
            else:
                self._note(node, (_MERGE_KEY,), "is not a mapping, so it cannot be merged", "write `<<: *name`")
        values = [value for _, value in entries.values()]
        return MappingNode(*_position(opened.event.start_mark), entries, *_extent(values))

    def _check_tag(self, event: yaml.NodeEvent, tag: str | None) -> None:
        if tag is not None:
            self._fail(event, "tags such as `!name` are not supported", "delete the tag")

    def _path(self) -> KeyPath:
        """Return the path of the node that is about to be added."""
        path: list[str | int] = []
        for opened in self._open:
            last = opened.children[-1] if opened.children else None
            if not isinstance(opened.event, yaml.MappingStartEvent):
                path.append(len(opened.children))
            elif len(opened.children) % 2 and isinstance(last, ScalarNode):
                path.append(last.text)
        return tuple(path)

    def _note(self, node: Node, path: KeyPath, message: str, hint: str) -> None:
        text = path_text((*self._path(), *path))
        self.problems.append(Problem(self._file, node.line, node.column, text, message, hint))

    def _fail(self, event: yaml.Event, message: str, hint: str = "") -> NoReturn:
        raise DocumentError(Problem(self._file, *_position(event.start_mark), path_text(self._path()), message, hint))


def _position(mark: Any) -> tuple[int, int]:
    """Line and column from 1 of a mark of either parser, which count from 0."""
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _extent(children: list[Node]) -> tuple[int, int]:
    """Size and depth of a collection of these values."""
    return 1 + sum(child.size for child in children), 1 + max((child.depth for child in children), default=0)
