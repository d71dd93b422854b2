"""The starter plan of ``rhombus-dataset init``, and the JSON Schema of plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rhombus_dataset.errors import UsageError
from rhombus_dataset.plan.model import Plan, View
from rhombus_dataset.plan.values import WEEKDAYS, duration_text
from rhombus_dataset.store.files import make_folders, remove_leftovers, write_file

_STARTER = """\
# yaml-language-server: $schema=plan.schema.json
# (for completion in an editor; write that file with: rhombus-dataset schema > plan.schema.json)
# A sampling plan for rhombus-dataset. Times without a UTC offset are the camera's local time.
# Check the plan:                 rhombus-dataset validate plan.yaml
# Count frames before fetching:   rhombus-dataset plan plan.yaml
version: 1
name: my-dataset
seed: 7                                  # another seed draws another sample

source:
  type: rhombus                          # the API key comes from RHOMBUS_API_KEY, never from a plan
  # url: https://api2.eu.rhombussystems.com      # for organisations in the EU
  limits: {requests_per_second: 5, burst: 20, concurrency: 16, per_camera: 4, timeout: 30s}

cameras:
  - uuid: AAAAAAAAAAAAAAAAAAAAAA         # replace it with the UUID of your camera
    name: dock-north
    timezone: America/Los_Angeles        # IANA name
    # masks are painted black before anything is stored; points in percent of the full frame
    # masks: [[[0%, 0%], [25%, 0%], [25%, 18%], [0%, 18%]]]

views:                                   # each moment gives one image for each view
  full: {downscale: 2}
  # door: {crop: {x: 25%, y: 10%, width: 50%, height: 60%}}

windows:                                 # start included, end excluded
  - start: 2026-06-01
    end: 2026-07-01                      # or: now
    daily: ["06:00-20:00"]
    weekdays: [mon, tue, wed, thu, fri]

sampling:                                # or interval, random, burst, timestamps, scout
  strategy: stratified                   # spread evenly over camera and local hour
  frames: 1000
  min_gap: 30s

splits:                                  # by time, with a gap where the split changes
  by: time
  block: 1h
  embargo: 5m
  fractions: {train: 0.8, validation: 0.1, test: 0.1}

output: {format: parquet, frames_per_shard: 1000}
"""


def starter_plan() -> str:
    """Return a commented plan. It is valid except for the UUID of the camera."""
    return _STARTER


def refuse_existing(path: Path) -> None:
    """Raise UsageError if the file exists."""
    if path.exists():
        raise UsageError(f"{path}: exists already and was not changed: choose another name")


def write_new(path: Path, text: str) -> Path:
    """Write a file that does not exist yet, and return its path. Raises UsageError if it exists, StorageError."""
    refuse_existing(path)
    make_folders(path.parent)
    remove_leftovers(path)
    write_file(path, text.encode())
    return path


def plan_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a plan as it is written, for editors that complete and check YAML."""
    schema = Plan.model_json_schema()
    view = View.model_json_schema()
    schema["$defs"] |= view.pop("$defs") | {"View": view}
    # A view is written as a View and kept as its Geometry: the generated schema cannot know that.
    schema["properties"]["views"]["additionalProperties"] = {"$ref": "#/$defs/View"}
    schema["properties"]["views"]["default"] = {"full": {}}
    camera = schema["$defs"]["Camera"]
    camera["required"] = [name for name in camera["required"] if name != "name"]
    window = schema["$defs"]["Window"]["properties"]
    window["weekdays"]["default"] = list(WEEKDAYS)
    del window["daily"]["default"]  # an empty list is not how a plan says "the whole day"
    for model in (schema, *schema["$defs"].values()):
        for field in model["properties"].values():
            if "$ref" in field:
                field.pop("default", None)  # the fields of that type have their own defaults
            if field.get("type") == "string" and isinstance(field.get("default"), int):
                field["default"] = duration_text(field["default"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
