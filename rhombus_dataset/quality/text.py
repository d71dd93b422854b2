"""Counts in sentences, and texts for a terminal."""

from __future__ import annotations


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: ``1 frame``, ``2,000 frames``. ``many`` is by default ``one`` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"
