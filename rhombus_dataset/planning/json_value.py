"""A value of a JSON file that somebody else may have written, with its place in the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from rhombus_dataset.geometry import PERMYRIAD

LATEST_MS: Final = 2**43
"""Furthest time from 1970, and the longest duration, in milliseconds: 279 years. Plans end in the year 2200. Sums
of a few such times fit into 64 bits."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A value of a JSON file, and its place in the file. Each method raises ValueError for another type."""

    value: Any
    place: str

    def __getitem__(self, key: str) -> JsonValue:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        if key not in self.value:
            raise ValueError(f"{self._at(key)} is missing")
        return JsonValue(self.value[key], self._at(key))

    def get(self, key: str, default: Any = None) -> JsonValue:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return JsonValue(self.value.get(key, default), self._at(key))

    def whole(self, low: int = -(2**63), high: int = 2**63 - 1) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not low <= self.value <= high:
            raise self.wrong(f"a whole number from {low} to {high}")
        return self.value

    def number(self) -> float:
        if not isinstance(self.value, int | float) or isinstance(self.value, bool) or not abs(self.value) < 2**63:
            raise self.wrong("a number")
        return self.value

    def share(self) -> float:
        if not 0 <= self.number() <= 1:
            raise self.wrong("a number from 0 to 1")
        return self.number()

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("text")
        try:
            self.value.encode()
        except UnicodeEncodeError:
            raise self.wrong("text") from None
        return self.value

    def time_ms(self) -> int:
        return self.whole(-LATEST_MS, LATEST_MS)

    def permyriad(self) -> int:
        return self.whole(0, PERMYRIAD)

    def duration_ms(self, low: int = 0) -> int:
        return self.whole(low, LATEST_MS)

    def checked(self, check: Callable[[str], str]) -> str:
        """Return a text that ``check`` returns unchanged."""
        try:
            valid = check(self.text()) == self.value
        except ValueError:
            valid = False
        if not valid:
            raise self.wrong("a valid name")
        return self.text()

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def optional(self, read: Callable[[JsonValue], T]) -> T | None:
        return None if self.value is None else read(self)

    def each(self, read: Callable[[JsonValue], T]) -> tuple[T, ...]:
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return tuple(read(JsonValue(value, f"{self.place}[{i}]")) for i, value in enumerate(self.value))

    def entries(self, read: Callable[[JsonValue], T]) -> dict[str, T]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return {key: read(JsonValue(value, self._at(key))) for key, value in self.value.items()}

    def named_entries(self, check: Callable[[str], str], read: Callable[[JsonValue], T]) -> dict[str, T]:
        """Return the entries of an object whose keys ``check`` returns unchanged."""
        entries = self.entries(read)
        for name in entries:
            JsonValue(name, self.place).checked(check)
        return entries

    def wrong(self, expected: str) -> ValueError:
        return ValueError(f"{self.place}: expected {expected}, got {self.value!r:.60}")

    def _at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key
