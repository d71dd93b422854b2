"""How many cases the tests with large counts try.

`scripts/test` tries a sample of the random inputs and of the moments at which a command is killed, so that all
tests take some minutes. `scripts/test --thorough` tries all: for a release, and for a change of what is tested.
"""

from __future__ import annotations

import os
from typing import Final

THOROUGH: Final = os.environ.get("RHOMBUS_TESTS") == "thorough"


def count(all_cases: int, part: int) -> int:
    """Return ``all_cases`` in a thorough run, otherwise one ``part``-th of them."""
    return all_cases if THOROUGH else all_cases // part


def step(part: int) -> int:
    """Return 1 in a thorough run, otherwise ``part``: the step in which cases are tried."""
    return 1 if THOROUGH else part
