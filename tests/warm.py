"""Imports everything once: processes that are forked from here start at once."""

from tests.zygote import import_all

import_all()
