"""One frame, from its request to its outcome: the quota, the tries, the checks and the masks."""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rhombus_dataset import wire
from rhombus_dataset.building.rate_limiter import RateLimiter
from rhombus_dataset.errors import AccessRefused, HostUnreachable
from rhombus_dataset.frame import FrameRequest, Outcome, Status
from rhombus_dataset.geometry import Polygon
from rhombus_dataset.imaging import jpeg
from rhombus_dataset.sources import FrameSource

BACKOFF_BASE_S: Final = 1.0
BACKOFF_CAP_S: Final = 60.0
TRIES_FOR_DAMAGE: Final = 3
"""A damaged image may have been damaged on the way; one that stays damaged is `corrupt`."""
UNREACHABLE_LIMIT_S: Final = 60.0
"""A host that has answered before and is silent for this long stops the build."""
UNREACHABLE_AT_START_S: Final = 10.0
"""The same for a host that has never answered: more likely a wrong address than a bad moment."""


@dataclass(frozen=True, slots=True)
class Refused:
    """403: of this camera only, or of the key. The answers of other cameras tell which."""

    reason: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """The camera seems to be down: ask again later. ``tries`` have been made for the frame so far."""

    tries: int


OnTry = Callable[[str | None, int], bool]
"""Told of each try: why the camera may be down, or None; and how many tries the frame has had, if that was the
last, or 0. Returns whether the frame's own tries are to go on, or end; if not, it is deferred."""


class Fetcher:
    """Fetches frames from ``source`` under ``quota``, with up to ``tries`` requests each.

    Safe to use from many threads. What is transient is tried again after a pause drawn from
    [0, min(60 s, 1 s doubled each time)], as long as the frame takes no more than ``deadline_s`` in all; a
    ``Retry-After`` holds all threads, is not a try and takes none of a frame's time; what is permanent is
    not tried again. ``on_retry`` is told of every try that failed.
    """

    def __init__(
        self,
        source: FrameSource,
        quota: RateLimiter,
        tries: int,
        on_retry: Callable[[FrameRequest, str], None],
        deadline_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._quota = quota
        self._tries = tries
        self._on_retry = on_retry
        self._deadline_s = deadline_s
        self._clock = clock
        self._random = random.Random()
        self._silent_since_s: float | None = None
        self._has_answered = False
        self._requests = itertools.count()

    def fetch(
        self,
        request: FrameRequest,
        masks: Sequence[Polygon] = (),
        tries: int = 0,
        on_try: OnTry = lambda *_: True,
    ) -> Outcome | Refused | Deferred:
        """The outcome of one planned frame, for which ``tries`` have been made before.

        Raises AccessRefused for a 401, HostUnreachable when nothing answers, and quota.Stopped when the
        build is stopping.
        """
        unreachable = 0
        spent_s = 0.0
        while True:
            sent_s = self._quota.acquire()
            next(self._requests)
            began_s = self._clock()
            reply = self._source.get(request)
            if isinstance(reply, wire.Unreachable):
                unreachable += 1
                self._on_retry(request, reply.reason)
                self._wait_for_host(reply, unreachable)
                continue
            self._silent_since_s = None
            self._has_answered = True
            unreachable = 0
            if isinstance(reply, wire.Throttled):
                self._on_retry(request, f"429, Retry-After {reply.retry_after_s:g} s")
                self._quota.throttled(sent_s, reply.retry_after_s)
                continue
            if isinstance(reply, wire.Denied):
                if reply.http_status == 401:
                    raise AccessRefused(access_advice(reply.reason))
                return Refused(reply.reason)
            spent_s += self._clock() - began_s
            outcome, allowed = self._judge(reply, request, masks)
            is_down = isinstance(reply, wire.Transient) and reply.camera_down
            is_last = tries + 1 >= min(allowed, self._tries)
            if not on_try(outcome.reason if is_down else None, tries + 1 if is_last else 0):
                self._on_retry(request, outcome.reason or "")
                return Deferred(tries)
            tries += 1
            if outcome.status in (Status.OK, Status.MISSING) or is_last:
                return outcome
            pause_s = self._random.uniform(0, _ceiling_s(tries))
            if spent_s + pause_s > self._deadline_s:
                return outcome
            self._on_retry(request, outcome.reason or "")
            self._quota.sleep(pause_s)
            spent_s += pause_s

    def close(self) -> None:
        """Cut what is under way: those who wait for it end with quota.Stopped if the build is stopping."""
        self._source.close()

    @property
    def requests(self) -> int:
        """How many requests have been sent."""
        # The counter is read as it prints itself: next() is atomic, and += is not.
        return int(repr(self._requests)[6:-1])

    def _judge(self, reply: wire.Reply, request: FrameRequest, masks: Sequence[Polygon]) -> tuple[Outcome, int]:
        """The outcome if no more is tried, and how many tries this kind of outcome is worth."""
        match reply:
            case wire.Image(image=image, mime_type=mime_type, warning=warning):
                if mime_type not in jpeg.MIME_TYPES:
                    reason = f"not a JPEG but {mime_type[:80]}"
                    return Outcome(Status.CORRUPT, reason=reason), TRIES_FOR_DAMAGE
                try:
                    return stored_frame(image, masks, request, warning), 1
                except jpeg.DamagedImage as error:
                    return Outcome(Status.CORRUPT, reason=str(error)[:200]), TRIES_FOR_DAMAGE
            case wire.NoFrame(reason=reason):
                return Outcome(Status.MISSING, reason=reason), 1
            case wire.Transient(reason=reason, max_tries=max_tries):
                return Outcome(Status.FAILED, reason=reason), max_tries or self._tries
            case wire.Rejected(reason=reason):
                return Outcome(Status.FAILED, reason=reason), 1
            case _:
                raise TypeError(f"unexpected reply {type(reply).__name__}")

    def _wait_for_host(self, reply: wire.Unreachable, times: int) -> None:
        now_s = self._clock()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        limit_s = UNREACHABLE_LIMIT_S if self._has_answered else UNREACHABLE_AT_START_S
        if now_s - self._silent_since_s > limit_s or reply.reason.startswith("TLS"):
            raise HostUnreachable(
                f"no answer from the source: {reply.reason}. Check the network, the plan's url and "
                "any proxy; then run the same build again to go on."
            )
        self._quota.sleep(self._random.uniform(0, _ceiling_s(times)))


def _ceiling_s(times: int) -> float:
    return min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(times - 1, 10))


def stored_frame(image: bytes, masks: Sequence[Polygon], request: FrameRequest, warning: str | None) -> Outcome:
    """The ``ok`` outcome for an image that came: masked, measured and hashed.

    Raises jpeg.DamagedImage.
    """
    stored = jpeg.paint_masks(image, masks, request.geometry) if masks else image
    return Outcome(
        status=Status.OK,
        warning=warning,
        image=stored,
        mime_type="image/jpeg",
        sha256=hashlib.sha256(stored).hexdigest(),
        measures=jpeg.measure(stored),
    )


def access_advice(reason: str) -> str:
    """Why the key was probably refused, and what to do."""
    return (
        f"the API refuses the key ({reason}). Likely causes: the key is wrong or expired; it belongs to "
        "the other region (EU organisations use https://api2.eu.rhombussystems.com); the plan's "
        "auth.scheme does not fit it; or it may not see these cameras. Set RHOMBUS_API_KEY and run "
        "the same build again."
    )
