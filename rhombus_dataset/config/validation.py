"""Checking a marked file against pydantic models, with messages for people.

Nothing stops at the first mistake: each is noted with its place, and the file is refused in the end.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rhombus_dataset.config.yaml_source import Marked, Path_
from rhombus_dataset.errors import InvalidFile, Problem, nearest

M = TypeVar("M", bound=BaseModel)


class Checker:
    """Collects the ``problems`` of one file."""

    def __init__(self, marked: Marked) -> None:
        self.marked = marked
        self.problems: list[Problem] = []

    def refuse_file(self) -> NoReturn:
        """Raise InvalidFile with every problem, in the order of the file."""
        raise InvalidFile(sorted(self.problems, key=lambda p: (p.line or 0, p.column or 0)))

    def valid(self, path: Path_, kind: type[M], value: Any) -> M | None:
        if not isinstance(value, dict):
            fields = ", ".join(kind.model_fields)
            self.refuse(path, f"expected fields ({fields}), got {shown(value)}")
            return None
        found: M | None = self.checked(path, lambda: kind.model_validate(value), kind)
        return found

    def checked(self, path: Path_, check: Callable[[], Any], kind: type[BaseModel] | None = None) -> Any:
        try:
            return check()
        except ValidationError as error:
            for details in error.errors(include_url=False):
                self._report(path, details, kind)
            return None

    def _report(self, path: Path_, details: ErrorDetails, kind: type[BaseModel] | None) -> None:
        place: Path_ = path + tuple(step for step in details["loc"] if step != "[key]")
        match details["type"]:
            case "extra_forbidden":
                holder = _model_at(kind, details["loc"][:-1])
                self.unknown(place, str(details["loc"][-1]), holder)
            case "missing":
                self.refuse(place[:-1], f"{details['loc'][-1]} is missing")
            case "value_error":
                self.refuse(place, str(details["ctx"]["error"]))
            case _:
                got = details["input"]
                expected = details["msg"].removeprefix("Input should be ").removeprefix("a valid ")
                hint = ""
                if details["type"] == "literal_error" and isinstance(got, str):
                    hint = hint_for(got, [w.strip("'") for w in expected.replace(" or ", ", ").split(", ")])
                self.refuse(place, f"expected {_in_words(expected)}, got {shown(got)}{hint}")

    def unknown(self, path: Path_, key: str, holder: type[BaseModel] | None) -> None:
        known = list(holder.model_fields) if holder is not None else []
        hint = hint_for(key, known)
        listed = "" if hint or not known else f" (known: {', '.join(known)})"
        self.refuse(path, f"unknown field {shown(key)}{hint}{listed}")

    def refuse(self, path: Path_, message: str) -> None:
        self.problems.append(self.marked.problem(path, message))


def shown(value: Any) -> str:
    """A value as a message may show it: short, and as it stands in the file."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def hint_for(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where one of the known words is near, else nothing."""
    meant = nearest(word[:60], known)
    return f"; did you mean {meant}?" if meant else ""


def _in_words(expected: str) -> str:
    words = {
        "integer": "a whole number",
        "string": "text (in quotes, if it looks like a number)",
        "boolean": "true or false",
        "number": "a number",
        "tuple": "a list",
        "dictionary": "fields by name",
    }
    for word, said in words.items():
        if expected == word:
            return said
    if expected.startswith(("greater", "less")):
        return f"a number {expected}"
    return expected[:1].lower() + expected[1:]


def _model_at(kind: type[BaseModel] | None, loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model whose field an unknown key was meant to be."""
    for step in loc:
        if kind is None or step not in kind.model_fields:
            return None
        kind = next(_models_in(kind.model_fields[str(step)].annotation), None)
    return kind


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)
