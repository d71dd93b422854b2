"""The result of a run of a build."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rhombus_dataset.frame import Status
from rhombus_dataset.quality.reasons import FrameReason
from rhombus_dataset.quality.text import counted


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """The result of a run of a build.

    ``planned``: the number of rows of the whole dataset. ``counts``: its rows by status, of committed shards.
    ``requests``: the number that this run has sent. ``seconds``: how long this run took.
    """

    out: Path
    planned: int
    counts: dict[Status, int]
    shards: int
    committed_shards: int
    requests: int
    seconds: float
    unfinished_shards: int = 0
    """Shards that this run was to build or rewrite and has not, because it was stopped."""
    reasons: tuple[FrameReason, ...] = ()
    """The commonest reasons of rows without an image. Only of a complete build."""
    same_bytes: int = 0
    """Images with the same bytes as an image of another split. Only of a complete build."""

    @property
    def complete(self) -> bool:
        """Whether every planned row has its outcome, and no row is left to be requested again."""
        return self.all_committed and not self.unfinished_shards

    @property
    def all_committed(self) -> bool:
        """Whether every planned row has its outcome."""
        return self.committed_shards == self.shards

    def problem(self, min_ok: float = 0.5) -> str | None:
        """Return in a line why a complete build is not a success, or None if it is one.

        ``min_ok``: the share of the rows that were not erased that must be `ok`, 0 to 1.
        """
        lost = {status: self.counts.get(status, 0) for status in (Status.FAILED, Status.CORRUPT)}
        if any(lost.values()):
            listed = " and ".join(f"{count:,} {status}" for status, count in lost.items() if count)
            return f"{listed} of {counted(self.planned, 'frame')}"
        wanted, ok = self.planned - self.counts.get(Status.ERASED, 0), self.counts.get(Status.OK, 0)
        if ok < min_ok * wanted:
            return f"only {ok:,} of {counted(wanted, 'frame')} are ok, and --min-ok is {min_ok:g}"
        return None

    def to_json(self) -> dict[str, Any]:
        return {
            "out": str(self.out),
            "complete": self.complete,
            "planned": self.planned,
            "counts": {str(status): self.counts.get(status, 0) for status in Status},
            "reasons": [asdict(why) for why in self.reasons],
            "same_bytes_across_splits": self.same_bytes,
            "shards": self.shards,
            "committed_shards": self.committed_shards,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
        }

    def plus(self, other: BuildOutcome) -> BuildOutcome:
        """Return the sum of the outcomes of two rounds of one dataset."""
        counts = {status: self.counts.get(status, 0) + other.counts.get(status, 0) for status in Status}
        return BuildOutcome(
            out=self.out,
            planned=self.planned + other.planned,
            counts={status: count for status, count in counts.items() if count},
            shards=self.shards + other.shards,
            committed_shards=self.committed_shards + other.committed_shards,
            requests=self.requests + other.requests,
            seconds=self.seconds + other.seconds,
            unfinished_shards=self.unfinished_shards + other.unfinished_shards,
        )
