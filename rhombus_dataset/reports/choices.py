"""Why a scout pass chose the frames: a table by reason, and the caption of each image."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.reports.frames import OK, Frames

_MAX_REASONS: Final = 20
"""Rows of the table by reason. A dataset of this package has three reasons."""
_MAX_TEXT: Final = 60
"""Characters of a reason in the table and in a caption: one line of a phone."""
_NO_REASON: Final = "no reason in the manifest"
_SHORT: Final = (
    ("^new: .*; the first of an event of ", "new: the first of an event"),
    ("^new: .*; another of an event of ", "new: another of an event"),
)
"""Patterns of the column `chosen_for` (see scout/picks.py), and the reason without what differs for each frame."""


def reasons(chosen_for: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the reason of each text of the column `chosen_for`, without the numbers of its event."""
    found = pc.fill_null(pc.utf8_slice_codeunits(chosen_for, 0, _MAX_TEXT), _NO_REASON)
    for pattern, short in _SHORT:
        matches = pc.fill_null(pc.match_substring_regex(chosen_for, pattern), False)
        found = pc.if_else(matches, short, found)
    return found


def choices_section(table: pa.Table, lock: Lock, frames: Frames) -> dict[str, Any] | None:
    """Return the planned frames, images and scores of each reason, the most frequent first.

    ``table``: the manifest. None if the frames were not chosen by a scout pass. Frames that are not built yet have
    a row of their own, so that the rows add up to the planned frames.
    """
    if "chosen_for" not in table.column_names or "score" not in table.column_names:
        return None
    is_ok = frames.status[: table.num_rows] == OK
    rows = pd.DataFrame(
        {
            "reason": reasons(table.column("chosen_for")).to_pandas(),
            "score": table.column("score").to_pandas().astype(np.float64),
            "ok": is_ok,
        }
    )
    groups = [(str(reason), of) for reason, of in rows.groupby("reason", sort=True)]
    groups.sort(key=lambda group: -len(group[1]))
    shown, others = groups[:_MAX_REASONS], groups[_MAX_REASONS:]
    if others:
        shown.append((f"{len(others):,} other reasons", pd.concat([of for _, of in others])))
    pending = len(frames) - table.num_rows
    return {
        "result": lock.scout,
        "rows": [
            (reason, len(of), int(of["ok"].sum()), of["score"].quantile([0, 0.5, 1]).tolist())
            for reason, of in shown
        ]
        + ([("not built yet", pending, 0, [np.nan] * 3)] if pending else []),
        "planned": len(frames),
        "ok": int(is_ok.sum()),
    }
