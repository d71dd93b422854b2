"""The API key: from the environment, or from a file that the environment names. Never from a plan."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rhombus_dataset.errors import UsageError

KEY_VARIABLE: Final = "RHOMBUS_API_KEY"
KEY_FILE_VARIABLE: Final = "RHOMBUS_API_KEY_FILE"


def read_api_key(environment: Mapping[str, str] = os.environ) -> str:
    """Return the key from ``RHOMBUS_API_KEY``, or from the file that ``RHOMBUS_API_KEY_FILE`` names.

    Raises UsageError if there is no key, or if other users can read or change the file.
    """
    if key := environment.get(KEY_VARIABLE, "").strip():
        return key
    if not (name := environment.get(KEY_FILE_VARIABLE)):
        raise UsageError(
            f"no API key: set the environment variable {KEY_VARIABLE} to your Rhombus API key, or "
            f"{KEY_FILE_VARIABLE} to the path of a file that contains it"
        )
    path = Path(name)
    try:
        mode = path.stat().st_mode
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{KEY_FILE_VARIABLE}: {path} cannot be read ({error})") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(f"{path}: other users can read or change this key file: run chmod 600 {path}")
    if not key:
        raise UsageError(f"{path}: the key file is empty")
    return key
