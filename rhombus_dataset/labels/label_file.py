"""Reading of a label file that somebody else may have made."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from rhombus_dataset.errors import UsageError

MAX_BYTES: Final = 1 << 29
"""Maximum size of a label file, 512 MiB: the largest file of COCO, 860,000 outlines, has 450 MB. In memory, JSON
takes up to 20 times its size."""
MAX_IMAGE_BYTES: Final = 1 << 24
"""Maximum size of the label file of one image, 16 MiB: 200,000 boxes."""


def check_label_file(path: Path, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> Path:
    """Return ``path``. Raises UsageError unless it is a regular file of at most ``max_bytes``.

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
    if status.st_size > max_bytes:
        raise UsageError(f"{path}: expected at most {max_bytes:,} bytes, got {status.st_size:,} bytes")
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{path}: a link that leads out of {folder}")
    return path


def read_label_file(path: Path, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a label file. Raises UsageError, as :func:`check_label_file` does."""
    try:
        return check_label_file(path, folder, max_bytes).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
