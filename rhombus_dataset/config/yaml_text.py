"""Values as YAML text, for files that a person goes on to edit."""

from __future__ import annotations

from typing import Any

import yaml


def yaml_text(value: Any) -> str:
    """Return a mapping as YAML, in its order."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text
