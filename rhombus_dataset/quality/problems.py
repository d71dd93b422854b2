"""A problem that ``verify`` finds in a dataset."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DatasetProblem:
    """A file that differs from what the lock, the manifest and the hashes say."""

    file: str
    """Path relative to the dataset."""
    message: str
    shard: str | None = None
    """The shard that must be built again, or None if the problem is not in a shard."""

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"
