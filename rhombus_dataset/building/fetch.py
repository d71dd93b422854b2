"""Requests under the quota; and one frame, from its request to its outcome: attempts, checks and masks."""

from __future__ import annotations

import collections
import hashlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from rhombus_dataset import wire
from rhombus_dataset.building.rate_limiter import RateLimiter
from rhombus_dataset.errors import AccessRefused, HostUnreachable
from rhombus_dataset.frame import FrameRequest, Outcome, Status
from rhombus_dataset.geometry import Polygon
from rhombus_dataset.imaging import jpeg
from rhombus_dataset.sources import FrameSource

BACKOFF_BASE_S: Final = 1.0
"""Upper bound in seconds of the first pause before a retry. It doubles with each attempt."""
BACKOFF_CAP_S: Final = 60.0
"""The longest pause before a retry, in seconds."""
ATTEMPTS_FOR_DAMAGE: Final = 3
"""How often the same damaged bytes may come. Then they are damaged in the cloud, and the frame is `corrupt`. Bytes
that were damaged in transit differ each time: for them, the attempts of the frame decide.
"""
UNREACHABLE_LIMIT_S: Final = 60.0
"""Seconds without an answer after which a host that has answered before stops the build."""
UNREACHABLE_AT_START_S: Final = 10.0
"""The same for a host that has never answered: its address is probably wrong."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Refused:
    """403: either this camera or the key is refused. The answers of other cameras show which."""

    reason: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """The camera seems to be down: request the frame later. ``attempts`` were made for it so far."""

    attempts: int


OnAttempt = Callable[[str | None, int, float], bool]
"""Called after each attempt with three arguments: why the camera may be down, or None; the number of attempts made
for the frame if that was the last one, else 0; and when it was sent. Returns whether to continue with the frame; if
not, it is deferred.
"""


class Sender:
    """Sends requests under the quota. Safe to use from many threads.

    A request is sent again after a 429, which delays all threads for its ``Retry-After``, and while the host does
    not answer. Neither is an attempt. ``on_wait`` is called with the seconds of a 429.
    """

    def __init__(
        self,
        rate_limiter: RateLimiter,
        on_wait: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate_limiter = rate_limiter
        self._on_wait = on_wait
        self._clock = clock
        self._random = random.Random()
        self._silent_since_s: float | None = None
        self._has_answered = False
        self._requests = 0
        self._counting = threading.Lock()

    def send(self, request: Callable[[], R], on_retry: Callable[[str], None] = lambda _: None) -> tuple[R, float]:
        """Return the first reply that is about the request itself, and how many seconds it took.

        ``on_retry`` is called with the reason of each time that the request is sent again. Raises AccessRefused for
        a 401, HostUnreachable when the host does not answer, QuotaExhausted, and Stopped when the build stops.
        """
        unreachable = 0
        while True:
            sent_s = self._rate_limiter.acquire()
            with self._counting:
                self._requests += 1
            began_s = self._clock()
            reply = request()
            if isinstance(reply, wire.Unreachable):
                unreachable += 1
                on_retry(reply.reason)
                self._wait_for_host(reply, unreachable)
                continue
            self._silent_since_s = None
            self._has_answered = True
            unreachable = 0
            if isinstance(reply, wire.Throttled):
                on_retry(f"429, Retry-After {reply.retry_after_s:g} s")
                if self._rate_limiter.throttled(sent_s, reply.retry_after_s):
                    self._on_wait(reply.retry_after_s)
                continue
            self._rate_limiter.answered()
            if isinstance(reply, wire.Denied) and reply.http_status == 401:
                raise AccessRefused(access_advice(reply.reason))
            return reply, self._clock() - began_s

    def pause_s(self, failures: int) -> float:
        """Return the seconds to wait after this many failures: uniform from [0, min(60, 1 s doubled with each)]."""
        ceiling_s = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(failures - 1, 10))
        return self._random.uniform(0, ceiling_s)

    def sleep(self, seconds: float) -> None:
        """Wait. Raises Stopped when the build stops meanwhile."""
        self._rate_limiter.sleep(seconds)

    @property
    def requests(self) -> int:
        """The number of requests sent so far."""
        with self._counting:
            return self._requests

    def _wait_for_host(self, reply: wire.Unreachable, failures: int) -> None:
        now_s = self._clock()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        limit_s = UNREACHABLE_LIMIT_S if self._has_answered else UNREACHABLE_AT_START_S
        if now_s - self._silent_since_s > limit_s or reply.reason.startswith("TLS"):
            raise HostUnreachable(
                f"no answer from the source: {reply.reason}. Check the network, the address (the plan's url) and "
                "any proxy; then run the same command again."
            )
        self.sleep(self.pause_s(failures))


class Fetcher:
    """Fetches frames from ``source`` under the quota, with up to ``max_attempts`` requests for each.

    Safe to use from many threads. After a transient failure the frame is requested again. The pause before that is
    drawn uniformly from [0, min(60 s, 1 s doubled with each attempt)], and the frame as a whole takes at most
    ``deadline_s``. A ``Retry-After`` delays all threads, is not an attempt, and does not count against the
    deadline. After a permanent failure there is no retry. ``on_retry`` is called for every failed attempt with
    another to follow.
    """

    def __init__(
        self,
        source: FrameSource,
        rate_limiter: RateLimiter,
        max_attempts: int,
        on_retry: Callable[[FrameRequest, str], None],
        deadline_s: float = 300.0,
        on_wait: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._sender = Sender(rate_limiter, on_wait, clock)
        self._max_attempts = max_attempts
        self._on_retry = on_retry
        self._clock = clock
        self._deadline_s = deadline_s

    def fetch(
        self,
        request: FrameRequest,
        masks: Sequence[Polygon] = (),
        attempts: int = 0,
        on_attempt: OnAttempt = lambda *_: True,
    ) -> Outcome | Refused | Deferred:
        """Return the outcome of one planned frame, for which ``attempts`` were made before.

        Raises AccessRefused for a 401, HostUnreachable when the host does not answer, and Stopped when the build
        is stopping.
        """
        spent_s = 0.0
        # Counts of the answers that a retry may not improve: the same damaged bytes, or the same kind of error.
        repeats: collections.Counter[str] = collections.Counter()
        while True:
            reply, took_s = self._sender.send(
                lambda: self._source.get(request), lambda reason: self._on_retry(request, reason)
            )
            if isinstance(reply, wire.Denied):
                return Refused(reply.reason)
            sent_s = self._clock() - took_s
            spent_s += took_s
            outcome, kind, allowed = self._judge(reply, request, masks)
            repeats[kind] += 1
            is_down = isinstance(reply, wire.Transient) and reply.camera_down
            is_last = repeats[kind] >= allowed or attempts + 1 >= self._max_attempts
            if not on_attempt(outcome.reason if is_down else None, attempts + 1 if is_last else 0, sent_s):
                self._on_retry(request, outcome.reason or "")
                return Deferred(attempts)
            attempts += 1
            if outcome.status in (Status.OK, Status.MISSING) or is_last:
                return outcome
            pause_s = self._sender.pause_s(attempts)
            if spent_s + pause_s > self._deadline_s:
                return outcome
            self._on_retry(request, outcome.reason or "")
            self._sender.sleep(pause_s)
            spent_s += pause_s

    def close(self) -> None:
        """Cut the requests in flight. Threads that wait for them get Stopped if the build is stopping."""
        self._source.close()

    @property
    def requests(self) -> int:
        """The number of requests sent so far."""
        return self._sender.requests

    def _judge(
        self, reply: wire.Reply, request: FrameRequest, masks: Sequence[Polygon]
    ) -> tuple[Outcome, str, int]:
        """Return the outcome if there is no further attempt, the kind of reply, and how often it may come.

        Damaged images are of one kind if their bytes are equal: then the damage is not from the transfer.
        """
        match reply:
            case wire.Image(image=image, mime_type=mime_type, warning=warning):
                if mime_type not in jpeg.MIME_TYPES:
                    reason = f"not a JPEG but {mime_type[:80]}"
                else:
                    try:
                        return stored_frame(image, masks, request, warning), "ok", 1
                    except jpeg.DamagedImage as error:
                        reason = str(error)[:200]
                kind = f"damaged {hashlib.sha256(image).hexdigest()}"
                return Outcome(Status.CORRUPT, reason=reason), kind, ATTEMPTS_FOR_DAMAGE
            case wire.NoFrame(reason=reason):
                return Outcome(Status.MISSING, reason=reason), "missing", 1
            case wire.Transient(reason=reason, max_attempts=max_attempts):
                kind = "transient" if max_attempts is None else "transient, limited"
                return Outcome(Status.FAILED, reason=reason), kind, max_attempts or self._max_attempts
            case wire.Rejected(reason=reason):
                return Outcome(Status.FAILED, reason=reason), "rejected", 1
            case _:
                raise TypeError(f"unexpected reply {type(reply).__name__}")


def stored_frame(image: bytes, masks: Sequence[Polygon], request: FrameRequest, warning: str | None) -> Outcome:
    """Return the ``ok`` outcome for a received image: masked, measured and hashed. Raises jpeg.DamagedImage."""
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
    """Return a message that says why the key was probably refused and what to do."""
    return (
        f"the API refuses the key ({reason}). Likely causes: the key is wrong or expired; it belongs to "
        "the other region (EU organisations use https://api2.eu.rhombussystems.com); the plan's "
        "auth.scheme does not fit it; or it may not see these cameras. Set RHOMBUS_API_KEY and run "
        "the same command again."
    )
