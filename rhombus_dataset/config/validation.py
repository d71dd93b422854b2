"""Validation of a YAML file by pydantic models, with messages for people.

All errors of a file are collected with their line and field, and then reported together.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rhombus_dataset.config.yaml_source import FieldPath, Marked
from rhombus_dataset.errors import InvalidFile, Problem, did_you_mean

M = TypeVar("M", bound=BaseModel)


class Checker:
    """Collects the errors of one file in ``problems``."""

    def __init__(self, marked: Marked) -> None:
        self.marked = marked
        self.problems: list[Problem] = []

    def refuse_file(self) -> NoReturn:
        """Raise InvalidFile with all errors, in the order of the file."""
        raise InvalidFile(sorted(self.problems, key=lambda p: (p.line or 0, p.column or 0)))

    def valid(self, path: FieldPath, kind: type[M], value: Any) -> M | None:
        """Return the value at ``path`` as a model, or None after noting its errors."""
        if not isinstance(value, dict):
            fields = ", ".join(kind.model_fields)
            self.refuse(path, f"expected fields ({fields}), got {shown(value)}")
            return None
        found: M | None = self.checked(path, lambda: kind.model_validate(value), kind)
        return found

    def checked(self, path: FieldPath, check: Callable[[], Any], kind: type[BaseModel] | None = None) -> Any:
        """Return the result of a pydantic validation, or None after noting its errors.

        ``kind``: the model, if any.
        """
        try:
            return check()
        except ValidationError as error:
            for details in error.errors(include_url=False):
                self._report(path, details, kind)
            return None

    def _report(self, path: FieldPath, details: ErrorDetails, kind: type[BaseModel] | None) -> None:
        place: FieldPath = path + tuple(step for step in details["loc"] if step != "[key]")
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
                    hint = did_you_mean(got, [w.strip("'") for w in expected.replace(" or ", ", ").split(", ")])
                self.refuse(place, f"expected {_in_words(expected)}, got {shown(got)}{hint}")

    def unknown(self, path: FieldPath, key: str, holder: type[BaseModel] | None) -> None:
        """Note an unknown field. ``holder``: the model whose field it should be, if known."""
        known = list(holder.model_fields) if holder is not None else []
        hint = did_you_mean(key, known)
        listed = "" if hint or not known else f" (known: {', '.join(known)})"
        self.refuse(path, f"unknown field {shown(key)}{hint}{listed}")

    def refuse(self, path: FieldPath, message: str) -> None:
        """Note an error at ``path``."""
        self.problems.append(self.marked.problem(path, message))


def shown(value: Any) -> str:
    """Return a value for a message: as in the file, at most 60 characters."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _in_words(expected: str) -> str:
    words = {
        "integer": "a whole number",
        "string": "text (in quotes, if it looks like a number)",
        "boolean": "true or false",
        "number": "a number",
        "tuple": "a list",
        "dictionary": "fields by name",
    }
    if expected in words:
        return words[expected]
    if expected.startswith(("greater", "less")):
        return f"a number {expected}"
    return expected[:1].lower() + expected[1:]


def _model_at(kind: type[BaseModel] | None, loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the model at ``loc``, or None."""
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
