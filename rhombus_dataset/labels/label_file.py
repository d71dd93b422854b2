"""Opening a label file that somebody else may have made."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from rhombus_dataset.errors import UsageError

MAX_BYTES: Final = 1 << 30
"""Maximum size of a label file, 1 GiB: its content takes several times that in memory. Ten million boxes fit."""


def check_label_file(path: Path, folder: Path | None = None) -> Path:
    """Return ``path``. Raises UsageError unless it is a regular file of a size that can be read.

    ``folder``: the folder of labels that it belongs to; a link that leads out of it is refused. A pipe would wait
    for ever, and an error in a linked file would quote a file that has no labels.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path}: not a regular file")
    if status.st_size > MAX_BYTES:
        raise UsageError(f"{path}: expected at most {MAX_BYTES:,} bytes, got {status.st_size:,}")
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{path}: a link that leads out of {folder}")
    return path
