"""What the first answers say about a plan: a camera that the source does not know, or no footage at all.

A few moments of each camera, spread over all of its planned time, are requested first. So a mistake in the plan
costs a few requests, not the quota.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import SourceFailing
from rhombus_dataset.frame import Outcome, Status

FIRST_ROWS: Final = 8
"""Rows of a camera that are requested first, the earliest and the latest among them: footage may begin late, and
end early."""
MIN_ROWS: Final = 4 * FIRST_ROWS
"""Fewest rows of a camera for which this is done. Fewer cost little in any case."""


class FirstAnswers:
    """Judges the first answers of each camera. Thread-safe.

    Outcomes without a frame are held back until it is known whether the build stops: nothing is then recorded of
    a mistake in the plan. ``rows`` are the rows to request, in build order, and ``cameras`` the camera of each.
    ``names``: of all cameras. ``known``: cameras of which the dataset has rows already. They are not judged.
    """

    def __init__(
        self,
        rows: npt.NDArray[np.int32],
        cameras: npt.NDArray[np.int32],
        names: Sequence[str],
        known: Collection[int],
    ) -> None:
        self._names = names
        self._lock = threading.Lock()
        self._waiting: dict[int, set[int]] = {}
        self._held: dict[int, list[tuple[int, Outcome]]] = collections.defaultdict(list)
        self._has_frame = False
        self._is_stopped = False
        first = np.zeros(len(rows), np.bool_)
        by_camera = np.argsort(cameras, kind="stable")
        present, starts = np.unique(cameras[by_camera], return_index=True)
        for camera, places in zip(present.tolist(), np.split(by_camera, starts)[1:], strict=True):
            if camera in known:
                self._has_frame = True
            elif len(places) >= MIN_ROWS:
                picked = places[np.linspace(0, len(places) - 1, FIRST_ROWS).astype(np.int64)]
                first[picked] = True
                self._waiting[camera] = set(rows[picked].tolist())
        self.rows = np.concatenate([rows[first], rows[~first]])
        """The rows in the order in which they are to be requested."""

    def add(self, row: int, camera: int, outcome: Outcome) -> list[tuple[int, Outcome]]:
        """Return the rows to record now: this one, unless it is held back, and those whose camera is judged.

        Raises SourceFailing where the build would waste the quota.
        """
        with self._lock:
            waiting = self._waiting.get(camera)
            if outcome.status is Status.OK:
                self._has_frame = True
                self._waiting.pop(camera, None)
                return [*self._release(), (row, outcome)]
            if waiting is None and camera not in self._held:
                return [(row, outcome)]
            self._held[camera].append((row, outcome))
            if waiting and row in waiting:
                waiting.remove(row)
                if not waiting:
                    self._check_camera(camera)
            return self._release()

    def give_up(self, camera: int) -> list[tuple[int, Outcome]]:
        """Stop judging a camera that is down or refused. Return the rows to record now."""
        with self._lock:
            self._waiting.pop(camera, None)
            return self._release()

    def all_held(self) -> list[tuple[int, Outcome]]:
        """Return all rows that are held back: the build ends, but not for them."""
        with self._lock:
            self._waiting.clear()
            self._has_frame = True
            return self._release()

    def _check_camera(self, camera: int) -> None:
        held = self._held[camera]
        reasons = {outcome.reason for _, outcome in held}
        if len(reasons) == 1 and all(outcome.status is not Status.MISSING for _, outcome in held):
            self._is_stopped = True
            raise SourceFailing(
                f"camera {self._names[camera]}: none of its first {len(held)} frames was received "
                f"({reasons.pop()}). Check its uuid in the plan. The build stopped, to save the quota; what was "
                "received is kept. To build it nevertheless, set limits.min_success_rate: 0 in the plan."
            )
        if not any(self._waiting.values()) and not self._has_frame:
            outcomes = [outcome for held in self._held.values() for _, outcome in held]
            self._is_stopped = True
            reason, count = collections.Counter(outcome.reason for outcome in outcomes).most_common(1)[0]
            raise SourceFailing(
                f"no footage: none of {len(outcomes)} moments, spread over all planned times of "
                f"{len(self._held)} camera{'s' if len(self._held) > 1 else ''}, has a frame ({count} x {reason}). "
                "Check the plan's windows and time zones. The build stopped, to save the quota. To build it "
                "nevertheless, set limits.min_success_rate: 0 in the plan."
            )

    def _release(self) -> list[tuple[int, Outcome]]:
        """Return the rows that need not be held any longer, and forget them."""
        if self._is_stopped:
            return []
        is_decided = self._has_frame or not any(self._waiting.values())
        free = [camera for camera in self._held if is_decided and not self._waiting.get(camera)]
        return [held for camera in free for held in self._held.pop(camera)]
