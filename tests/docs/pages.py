"""The documentation's sources, and the blocks of code in them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from tests.conftest import ROOT

PAGES = ROOT / "docs" / "pages"
SOURCES = [*sorted(PAGES.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def blocks(path: Path, language: str) -> list[str]:
    """Return the blocks of code of a Markdown file in one language, in order."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", path.read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(text) for _, text in found]


def commands(path: Path) -> list[str]:
    """Return the lines after a prompt in the console blocks of a Markdown file, without their comments."""
    lines = [line for block in blocks(path, "console") for line in block.splitlines()]
    return [re.sub(r"\s+# .*", "", line[2:]) for line in lines if line.startswith("$ ")]
