"""Build computer-vision datasets from camera-cloud footage, from a YAML sampling plan."""

from rhombus_dataset.api import (
    build,
    dry_run,
    erase,
    export,
    import_labels,
    info,
    init,
    preview,
    report,
    schedule_of,
    validate,
    verify,
)
from rhombus_dataset.dataset import Dataset, Frame, open_dataset

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
    "open_dataset",
    "preview",
    "report",
    "schedule_of",
    "validate",
    "verify",
]
