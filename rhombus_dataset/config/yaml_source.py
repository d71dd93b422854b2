"""Safe reading of YAML files, with line and column of every value.

The result has plain values by the YAML 1.2 core schema: only ``true`` and ``false`` are booleans; dates, times and
``12:30`` stay text. Tags are refused. Size, depth and the expansion of aliases are limited, so that no file can
exhaust memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from rhombus_dataset.errors import InvalidFile, Problem

MAX_BYTES: Final = 1 << 20
"""Maximum size of a file: 1 MiB is about 10,000 cameras."""
MAX_DEPTH: Final = 32
"""Maximum depth of nested lists and mappings. A plan has about 5 levels."""
MAX_NODES: Final = 200_000
"""Maximum number of values, each alias counted with all values it stands for. It bounds memory to about 100 MB."""

_TOO_DEEP: Final = f"expected at most {MAX_DEPTH} levels of lists and mappings"
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,19}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS: Final[dict[str, Any]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip

# libyaml's parser is much faster. The wheels of PyYAML include it, some other builds do not.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

FieldPath = tuple[str | int, ...]
"""Where a value is: the keys and indices that lead to it."""


@dataclass(slots=True)
class _Node:
    line: int
    column: int
    value: Any = None
    items: list[_Node] | None = None
    entries: dict[str, _Node] | None = None
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    size: int = 1


@dataclass(frozen=True, slots=True)
class Marked:
    """The content of a file. ``value`` consists of dict, list, str, int, float, bool and None."""

    file: str
    value: Any
    _root: _Node

    def position(self, path: FieldPath) -> tuple[int, int]:
        """Return line and column, from 1, of the key or element at ``path``, or of the nearest one that contains
        it."""
        node, place = self._root, (self._root.line, self._root.column)
        for step in path:
            if node.entries is not None and isinstance(step, str) and step in node.entries:
                place, node = node.keys[step], node.entries[step]
            elif node.items is not None and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
                place = (node.line, node.column)
            else:
                break
        return place

    def problem(self, path: FieldPath, message: str) -> Problem:
        """Return an error at ``path``."""
        line, column = self.position(path)
        return Problem(self.file, line, column, field_name(path), message)


def field_name(path: FieldPath) -> str:
    """Return a path as text: ``("cameras", 1, "views")`` as ``cameras[1].views``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def load_marked(path: Path) -> Marked:
    """Return the content of a YAML file. Raises InvalidFile with all errors of its syntax."""
    name = str(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InvalidFile([_whole(name, f"expected at most {MAX_BYTES:,} bytes, got {size:,} bytes")])
        # The same limit for a file that grows, or a pipe.
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidFile([_whole(name, f"cannot be read: {error.strerror or error}")]) from None
    if len(content) > MAX_BYTES:
        raise InvalidFile([_whole(name, f"expected at most {MAX_BYTES:,} bytes, got more")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidFile([Problem(name, line, None, "", "expected UTF-8 text")]) from None
    return parse_marked(text, name)


def parse_marked(text: str, file: str) -> Marked:
    """Return the content of a YAML text. ``file``: its name in messages. Raises InvalidFile."""
    reader = _Reader(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        message = f"not YAML: {error.problem or error.context or 'syntax error'}"
        if "nesting depth" in message:
            # libyaml reads ahead and, since PyYAML 6.0.4, has a limit of its own.
            message = _TOO_DEEP
        if "\\t" in repr(error.problem):
            message += " (indent with spaces)"
        reader.problems.append(Problem(file, line, column, "", message))
    except yaml.YAMLError as error:
        reader.problems.append(_whole(file, f"not YAML: {str(error).splitlines()[0]}"))
    if reader.root is None and not reader.problems:
        reader.problems.append(_whole(file, "the file is empty"))
    if reader.problems:
        raise InvalidFile(reader.problems)
    assert reader.root is not None
    return Marked(file, _plain(reader.root), reader.root)


class _Reader:
    """Builds the tree from the parser's events, without recursion: no file can exhaust the stack."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: _Node | None = None
        self.problems: list[Problem] = []
        self._open: list[tuple[_Node, str | None]] = []
        self._key: tuple[str, int, int] | None = None
        self._anchors: dict[str, _Node] = {}
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents == 2:
                    self._refuse(*place, "a second document starts here: expected one")
            case yaml.ScalarEvent():
                self._scalar(event, *place)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._start(event, *place)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                node, key = self._open.pop()
                self._key = None
                self._add(node, key)
            case yaml.AliasEvent():
                target = self._anchors.get(event.anchor or "")
                if target is None:
                    self._stop(*place, f"*{event.anchor} refers to itself or to an unknown anchor")
                    return
                if self._expects_key():
                    self._refuse(*place, "expected a word as key, got an alias")
                    self._key = ("", *place)
                    return
                self._add(target, self._taken_key())

    def _scalar(self, event: yaml.ScalarEvent, line: int, column: int) -> None:
        if event.tag is not None:
            self._refuse(line, column, f"the tag {event.tag} is not allowed: write plain values")
        if self._expects_key():
            if event.value == "<<":
                self._refuse(line, column, "merge keys (<<) are not supported: repeat the fields")
            self._key = (event.value, line, column)
            return
        plain = event.implicit[0] and not event.style
        node = _Node(line, column, value=_scalar_value(event.value) if plain else event.value)
        self._anchor(event.anchor, node)
        self._add(node, self._taken_key())

    def _start(self, event: yaml.CollectionStartEvent, line: int, column: int) -> None:
        if event.tag is not None:
            self._refuse(line, column, f"the tag {event.tag} is not allowed: write plain values")
        key: str | None = None
        if self._expects_key():
            self._refuse(line, column, "expected a word as key, got a list or mapping")
            self._key = None
        else:
            key = self._taken_key()
        if len(self._open) >= MAX_DEPTH:
            self._stop(line, column, _TOO_DEEP)
        node = _Node(line, column)
        if isinstance(event, yaml.MappingStartEvent):
            node.entries = {}
        else:
            node.items = []
        self._open.append((node, key))
        # The anchor is registered when the node is complete, so that no alias can contain itself.
        if event.anchor is not None:
            node.value = event.anchor

    def _expects_key(self) -> bool:
        return bool(self._open) and self._open[-1][0].entries is not None and self._key is None

    def _taken_key(self) -> str | None:
        if self._key is None or not self._open or self._open[-1][0].entries is None:
            return None
        key, line, column = self._key
        self._key = None
        entries, keys = self._open[-1][0].entries, self._open[-1][0].keys
        assert entries is not None
        if key in keys:
            self._refuse(line, column, f"duplicate key {key!r}, first in line {keys[key][0]}")
        else:
            keys[key] = (line, column)
        return key

    def _add(self, node: _Node, key: str | None) -> None:
        if isinstance(node.value, str) and (node.entries is not None or node.items is not None):
            self._anchors[node.value] = node
            node.value = None
        if not self._open:
            if self.root is None:
                self.root = node
            return
        parent = self._open[-1][0]
        parent.size += node.size
        if parent.size > MAX_NODES:
            self._stop(node.line, node.column, f"expected at most {MAX_NODES:,} values, including those of aliases")
        if parent.items is not None:
            parent.items.append(node)
        elif parent.entries is not None and key is not None:
            parent.entries.setdefault(key, node)

    def _anchor(self, name: str | None, node: _Node) -> None:
        if name is not None:
            self._anchors[name] = node

    def _refuse(self, line: int, column: int, message: str) -> None:
        self.problems.append(Problem(self.file, line, column, "", message))

    def _stop(self, line: int, column: int, message: str) -> None:
        self._refuse(line, column, message)
        raise InvalidFile(self.problems)


def _scalar_value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _plain(node: _Node) -> Any:
    if node.entries is not None:
        return {key: _plain(value) for key, value in node.entries.items()}
    if node.items is not None:
        return [_plain(item) for item in node.items]
    return node.value


def _whole(file: str, message: str) -> Problem:
    return Problem(file, None, None, "", message)
