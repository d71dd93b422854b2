"""Counts in sentences, and texts for a terminal."""

from __future__ import annotations


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: ``1 frame``, ``2,000 frames``. ``many`` is by default ``one`` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def printable(text: str) -> str:
    """Return text with control characters escaped, except line breaks and tabs.

    A dataset, a plan or labels from somebody else may hold codes that change what a terminal shows or does.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
