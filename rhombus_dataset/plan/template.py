"""Help for whoever writes a plan: a commented one to start from, and a schema for the editor."""

from __future__ import annotations

from typing import Any

from rhombus_dataset.plan.model import Plan, View

_STARTER = """\
# A sampling plan for rhombus-dataset. Times without an offset are the camera's local clock.
# Check it:  rhombus-dataset validate plan.yaml      Count before fetching:  rhombus-dataset plan plan.yaml
version: 1
name: my-dataset
seed: 7                                  # another seed draws another sample

source:
  type: rhombus                          # the key comes from RHOMBUS_API_KEY, never from a plan
  # url: https://api2.eu.rhombussystems.com      # for organisations in the EU
  limits: {requests_per_second: 5, burst: 20, concurrency: 16, per_camera: 4, timeout: 30s}

cameras:
  - uuid: AAAAAAAAAAAAAAAAAAAAAA         # replace with your camera's
    name: dock-north
    timezone: America/Los_Angeles        # IANA name
    # masks are painted black before anything reaches the disk; points in percent of the full frame
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
    """A commented plan that is valid as it stands, but for the camera's UUID."""
    return _STARTER


def plan_json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a plan as it is written, for editors that complete and check YAML."""
    schema = Plan.model_json_schema()
    view = View.model_json_schema()
    schema["$defs"] |= view.pop("$defs") | {"View": view}
    # A view is written as a View and kept as its Geometry, which no schema can tell by itself.
    schema["properties"]["views"]["additionalProperties"] = {"$ref": "#/$defs/View"}
    camera = schema["$defs"]["Camera"]
    camera["required"] = [name for name in camera["required"] if name != "name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
