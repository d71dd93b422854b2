"""A function over many frames in several threads, with results in the order of the frames."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

_AHEAD: Final = 4
"""Items that are worked on ahead, for each thread: so much is in memory, whatever the number of items."""

S = TypeVar("S")
T = TypeVar("T")


def ordered_map(function: Callable[[S], T], items: Iterable[S], workers: int) -> Iterator[T]:
    """Yield ``function(item)`` for each item, in their order. As results are used, further items are worked on."""
    with concurrent.futures.ThreadPoolExecutor(workers, "map") as pool:
        ahead: collections.deque[concurrent.futures.Future[T]] = collections.deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) >= _AHEAD * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
