"""Build computer-vision datasets from camera-cloud footage, from a YAML sampling plan."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rhombus_dataset.api import build as build
    from rhombus_dataset.api import dry_run as dry_run
    from rhombus_dataset.api import erase as erase
    from rhombus_dataset.api import export as export
    from rhombus_dataset.api import import_labels as import_labels
    from rhombus_dataset.api import info as info
    from rhombus_dataset.api import init as init
    from rhombus_dataset.api import init_site as init_site
    from rhombus_dataset.api import list_cameras as list_cameras
    from rhombus_dataset.api import preview as preview
    from rhombus_dataset.api import report as report
    from rhombus_dataset.api import schedule_of as schedule_of
    from rhombus_dataset.api import validate as validate
    from rhombus_dataset.api import verify as verify
    from rhombus_dataset.dataset import Dataset as Dataset
    from rhombus_dataset.dataset import Frame as Frame
    from rhombus_dataset.dataset import open_dataset as open_dataset

__all__ = [
    "Dataset",
    "Frame",
    "build",
    "dry_run",
    "erase",
    "export",
    "import_labels",
    "info",
    "init",
    "init_site",
    "list_cameras",
    "open_dataset",
    "preview",
    "report",
    "schedule_of",
    "validate",
    "verify",
]

_OF_THE_READER: Final = ("Dataset", "Frame", "open_dataset")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: all of them together take a second."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{'dataset' if name in _OF_THE_READER else 'api'}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return __all__
