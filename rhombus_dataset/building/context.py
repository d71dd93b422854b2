"""What the parts of one build share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from rhombus_dataset.building.events import BuildEvents
from rhombus_dataset.building.rate_limiter import RateLimiter
from rhombus_dataset.frame import Status
from rhombus_dataset.plan.model import Limits
from rhombus_dataset.sources import FrameSource


@dataclass(frozen=True)
class BuildContext:
    """What the parts of one build share.

    ``out`` is the folder of the dataset. ``source`` and ``rate_limiter`` are the same for all passes of a build.
    Setting ``stop`` ends the build early; calling it again continues. Rows whose status is in ``retry`` are
    requested again. ``reuse`` is an earlier dataset from which frames are taken without a request.
    """

    out: Path
    source: FrameSource
    rate_limiter: RateLimiter
    limits: Limits
    stop: threading.Event
    events: BuildEvents
    retry: frozenset[Status] = frozenset()
    reuse: Path | None = None
