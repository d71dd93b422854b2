"""What all sections of a plan share: access to their values, and errors with line and field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rhombus_dataset.config.validation import Checker, shown
from rhombus_dataset.config.yaml_source import FieldPath
from rhombus_dataset.errors import did_you_mean


class SectionReader:
    """Reads values of a plan, and notes errors in ``checker``.

    ``value``: the whole plan. ``folder``: of the plan.
    """

    def __init__(self, checker: Checker, value: dict[str, Any], folder: Path) -> None:
        self.checker = checker
        self.refuse = checker.refuse
        self.value = value
        self._folder = folder

    def at(self, path: FieldPath) -> Any:
        """Return the value at ``path``, which must exist."""
        value: Any = self.value
        for step in path:
            value = value[step]
        return value

    def section(self, name: str, expected: str) -> dict[str, Any] | None:
        """Return a section of the plan, or None after noting that it is missing or not a mapping."""
        value = self.value.get(name)
        if isinstance(value, dict):
            return value
        if name not in self.value:
            self.refuse((), f"{name} is missing: expected {expected}")
        else:
            self.refuse((name,), f"expected {expected}, got {shown(value)}")
        return None

    def items(self, name: str, most: int, expected: str) -> list[Any]:
        """Return a list of the plan, or an empty one after noting that it is missing, no list, empty or too
        long."""
        value = self.value.get(name)
        if name not in self.value:
            self.refuse((), f"{name} is missing: expected {expected}")
        elif not isinstance(value, list) or not value:
            self.refuse((name,), f"expected {expected}, got {shown(value)}")
        elif len(value) > most:
            self.refuse((name,), f"expected at most {most:,} {name}, got {len(value):,}")
        else:
            return value
        return []

    def tagged(self, path: FieldPath, raw: dict[str, Any], tag: str, kinds: Mapping[str, type[BaseModel]]) -> Any:
        """Return a section as the model that its field ``tag`` names, or None after noting its errors."""
        chosen = raw.get(tag)
        if isinstance(chosen, str) and chosen in kinds:
            return self.checker.valid(path, kinds[chosen], raw)
        names = " or ".join([", ".join(list(kinds)[:-1]), list(kinds)[-1]])
        if tag not in raw:
            self.refuse(path, f"{tag} is missing: expected {names}")
        else:
            hint = did_you_mean(chosen, kinds) if isinstance(chosen, str) else ""
            self.refuse((*path, tag), f"expected {names}, got {shown(chosen)}{hint}")
        return None

    def file(self, path: FieldPath, name: Path) -> Path | None:
        """Return the absolute path of an existing file, or None after noting that it does not exist."""
        file = (self._folder / name).absolute()
        if not file.is_file():
            self.refuse(path, f"no such file: {file}")
            return None
        return file
