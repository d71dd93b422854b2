"""Build computer-vision datasets from camera-cloud footage, from a YAML sampling plan."""

from rhombus_dataset.api import build, dry_run, init, preview, schedule_of, validate
from rhombus_dataset.info import info
from rhombus_dataset.verify import verify

__all__ = ["build", "dry_run", "info", "init", "preview", "schedule_of", "validate", "verify"]
