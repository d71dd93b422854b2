"""When a camera was moved, turned or blocked: from then on its background shows another scene.

Two views show the same scene if their structure correlates. A view that differs from an earlier one proves nothing
by itself, since night differs from day. But it should resemble the view of the same hour on an earlier day, or the
previous view in the same light.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.imaging.background import Logs, structure

SAME_SCENE: Final = 0.5
"""Minimum correlation of two views of one scene in the same light. Views of an unchanged scene have about 0.95."""
LIKE_SCENE: Final = 0.3
"""Minimum correlation in different light. Day and night of one camera may have less."""
SAME_LIGHT: Final = 1.1
"""Maximum factor between the luma of two views in the same light."""
NO_STRUCTURE: Final = 3
"""Minimum root mean square of the structure, in 1/64 octave. A covered lens or a dark room has less."""
CONFIRMED_BY: Final = 3
"""Minimum number of views of another scene. A lorry in front of the camera leaves before that."""
REMEMBERED: Final = 72
"""Maximum number of earlier views to compare with, at least three days of them. It limits the time."""


@dataclass(frozen=True, slots=True)
class View:
    """What a camera usually showed for a while: background (int16, (54, 96)), local day and hour, and luma."""

    background: Logs
    day: int
    hour: int
    luma: float


def changes_of_scene(views: Sequence[View]) -> list[int]:
    """Return the indices of the views, ordered by time, at which another scene begins."""
    structures = [structure(view.background) for view in views]

    def fits(i: int, others: Sequence[int]) -> bool:
        recent = others[-REMEMBERED:]
        same = [k for k in recent if _same_light(views[k], views[i])]
        least = SAME_SCENE if same else LIKE_SCENE
        return any(correlation(structures[i], structures[k]) >= least for k in same or recent)

    found: list[int] = []
    before: list[int] = []  # the scene before the last change
    known: list[int] = []  # the scene
    unsure: list[int] = []  # another light, or another scene
    suspect: list[int] = []  # another scene in the same light
    for i, view in enumerate(views):
        if not known or fits(i, known):
            known, unsure, suspect = [*known, *unsure, *suspect, i], [], []
        elif fits(i, unsure):
            unsure, suspect = [*unsure, *suspect, i], []
        elif suspect or _same_light(view, views[i - 1]):
            suspect.append(i)
        else:
            unsure.append(i)
        missed = [k for k in unsure if any(_same_hour(views[k], views[j]) for j in known[-REMEMBERED:])]
        for run, enough in ((suspect, len(suspect)), (unsure, len(missed))):
            if enough >= CONFIRMED_BY and fits(run[-1], run[:-1]):
                if found and has_structure(structures[run[-1]]) and fits(run[-1], before):
                    # Back and forth is infrared light at night, not a camera that is turned each evening.
                    if has_structure(structures[known[-1]]):
                        found.pop()
                        known, before = [*before, *known, *unsure, *suspect], []
                    else:
                        found.append(run[0])
                        before, known = known, [*before, *run]
                else:
                    found.append(run[0])
                    before, known = known, [k for k in (*unsure, *suspect) if k >= run[0]]
                unsure, suspect = [], []
                break
    return found


def first_of_scene(images: Sequence[Logs], before: Logs, after: Logs) -> int:
    """Return how many of the images, ordered by time, show the scene ``before``; the others show ``after``."""
    old, new = structure(before), structure(after)
    is_new = np.array([correlation(one, new) > correlation(one, old) for one in map(structure, images)], np.bool_)
    wrong = np.concatenate([[0], np.cumsum(is_new)]) + np.concatenate([np.cumsum(~is_new[::-1])[::-1], [0]])
    return int(np.argmin(wrong))


def has_structure(values: npt.NDArray[np.int64]) -> bool:
    """Return whether a view has structure. A covered lens and a dark room have none."""
    return int((values * values).sum()) >= NO_STRUCTURE**2 * values.size


def correlation(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float:
    """Return the correlation of two structures, -1 to 1, from exact integer sums.

    Two views without structure have 1; a view with structure and one without have 0."""
    if not (has_structure(a) and has_structure(b)):
        return float(has_structure(a) == has_structure(b))
    product, norms = int((a * b).sum()), int((a * a).sum()) * int((b * b).sum())
    return product / math.sqrt(norms)


def _same_hour(view: View, other: View) -> bool:
    return (view.hour - other.hour + 1) % 24 <= 2 and view.day != other.day


def _same_light(view: View, other: View) -> bool:
    return max(view.luma, other.luma, 1) <= SAME_LIGHT * max(min(view.luma, other.luma), 1)
