"""The exceptions of this package.

    RhombusDatasetError
    ├── InvalidFile          a plan, site or timestamps file, with all its problems      exit 2
    ├── UsageError           an argument that is not valid                               exit 2
    ├── MissingExtra         an optional package is not installed                        exit 2
    ├── BuildError           the build cannot continue                                   exit 1
    │   ├── AccessRefused    the API refuses the key
    │   ├── HostUnreachable  no connection to the API at all
    │   ├── SourceFailing    the API answers, but not with what was asked for
    │   ├── OtherDataset     the folder holds another plan's dataset
    │   └── StorageError     the disk is full, read-only or not mounted
    └── DatasetError         a dataset on disk is damaged or incomplete                  exit 1

All of them can be pickled: each is rebuilt from its ``args``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class RhombusDatasetError(Exception):
    """Base class. ``exit_code`` is the exit code of the command line."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """Return text with control characters escaped, except line breaks and tabs.

    A dataset, a plan or labels from somebody else may hold codes that change what a terminal shows or does.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in a file that a person wrote. Lines and columns count from 1."""

    file: str
    line: int | None
    column: int | None
    field: str
    message: str

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class InvalidFile(RhombusDatasetError):
    """A file is not valid. ``problems`` lists all errors in it, in the order of the file."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return printable("\n".join(str(problem) for problem in self.problems))


class UsageError(RhombusDatasetError):
    """An argument is not valid. The message names valid values."""

    exit_code = 2


class MissingExtra(RhombusDatasetError):
    """An optional package is not installed. ``extra`` is the extra of this package that installs it."""

    exit_code = 2

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(feature, extra)

    def __str__(self) -> str:
        return (
            f"{self.feature} needs the extra {self.extra!r}, which is not installed. "
            f"Install it with: pip install 'rhombus-dataset[{self.extra}]'"
        )


class BuildError(RhombusDatasetError):
    """The build cannot continue. Everything built so far is kept."""


class AccessRefused(BuildError):
    """The API refuses the key (401, or 403 for every camera)."""


class HostUnreachable(BuildError):
    """No connection to the API's host is possible."""


class SourceFailing(BuildError):
    """The API answers, but not with what was asked for: hardly any frame, or no list of cameras."""


class QuotaExhausted(BuildError):
    """The API asks to wait longer than the plan's limits.max_wait."""


class OtherDataset(BuildError):
    """The output folder holds a dataset of another plan."""


class StorageError(BuildError):
    """The disk is full, read-only or not mounted."""


class DatasetError(RhombusDatasetError):
    """A folder holds a dataset that is damaged or incomplete, or no dataset."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` with the known word that is most similar, or an empty text if none is similar.

    Only the first 60 characters of ``word`` are compared: the time grows with the square of its length.
    """
    found = difflib.get_close_matches(word[:60], list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
