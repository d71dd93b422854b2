"""The scout pass of a plan with strategy scout, as a plan of its own."""

from __future__ import annotations

import json
from typing import Any, Final

from rhombus_dataset.config.yaml_source import parse_marked
from rhombus_dataset.errors import UsageError
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.model import IntervalSampling, Output, Plan, ScoutSampling

VIEW: Final = "scout"
FRAMES_PER_SHARD: Final = 5_000
"""Frames of a shard of the pass: more than usual, since the images are small."""


def scout_pass(plan: Plan) -> Plan:
    """Return the plan of the pass: small frames of each camera at a fixed interval, with the masks of the plan.

    Raises UsageError for a plan with another strategy."""
    sampling = _scout_sampling(plan)
    return plan.model_copy(
        update={
            "name": _name(plan),
            "cameras": tuple(camera.model_copy(update={"views": (VIEW,)}) for camera in plan.cameras),
            "views": {VIEW: Geometry(sampling.downscale)},
            "sampling": IntervalSampling.model_validate(_interval(sampling)),
            "splits": None,
            "dedup": None,
            "output": Output(frames_per_shard=FRAMES_PER_SHARD),
        }
    )


def scout_pass_text(plan: Plan, text: bytes) -> bytes:
    """Return the plan of the pass as text, made from the text of the plan: JSON, which is also YAML.

    Raises UsageError for a plan with another strategy."""
    sampling = _scout_sampling(plan)
    written: dict[str, Any] = parse_marked(text.decode(), "plan").value
    written = {name: value for name, value in written.items() if name not in ("splits", "dedup")}
    written["name"] = _name(plan)
    written["cameras"] = [{k: v for k, v in camera.items() if k != "views"} for camera in written["cameras"]]
    written["views"] = {VIEW: {"downscale": sampling.downscale}}
    written["sampling"] = _interval(sampling)
    written["output"] = {"frames_per_shard": FRAMES_PER_SHARD}
    return json.dumps(written, indent=1, ensure_ascii=False).encode() + b"\n"


def _name(plan: Plan) -> str:
    return f"{plan.name[:94]}-scout"


def _scout_sampling(plan: Plan) -> ScoutSampling:
    if not isinstance(plan.sampling, ScoutSampling):
        raise UsageError(f"expected a plan with strategy scout, got {plan.sampling.strategy}")
    return plan.sampling


def _interval(sampling: ScoutSampling) -> dict[str, str]:
    return {"strategy": "interval", "every": f"{sampling.every}ms"}
