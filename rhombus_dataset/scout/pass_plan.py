"""The cheap pass of a plan with strategy `scout`, as a plan of its own."""

from __future__ import annotations

import json
from typing import Any, Final

from rhombus_dataset.config.yaml_source import parse_marked
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.model import IntervalSampling, Output, Plan, ScoutSampling

VIEW: Final = "scout"
FRAMES_PER_SHARD: Final = 5_000


def scout_pass(plan: Plan) -> Plan:
    """The plan of the pass: a small full frame every so often of each camera, masked as its others are."""
    assert isinstance(plan.sampling, ScoutSampling)
    return plan.model_copy(
        update={
            "name": _name(plan),
            "cameras": tuple(camera.model_copy(update={"views": (VIEW,)}) for camera in plan.cameras),
            "views": {VIEW: Geometry(plan.sampling.downscale)},
            "sampling": IntervalSampling.model_validate(_sampling(plan.sampling)),
            "splits": None,
            "dedup": None,
            "output": Output(frames_per_shard=FRAMES_PER_SHARD),
        }
    )


def scout_pass_text(plan: Plan, text: bytes) -> bytes:
    """The same as it would be written, from the text of the plan. (JSON, which is YAML.)"""
    assert isinstance(plan.sampling, ScoutSampling)
    written: dict[str, Any] = parse_marked(text.decode(), "plan").value
    written = {name: value for name, value in written.items() if name not in ("splits", "dedup")}
    written["name"] = _name(plan)
    written["cameras"] = [{k: v for k, v in camera.items() if k != "views"} for camera in written["cameras"]]
    written["views"] = {VIEW: {"downscale": plan.sampling.downscale}}
    written["sampling"] = _sampling(plan.sampling)
    written["output"] = {"frames_per_shard": FRAMES_PER_SHARD}
    return json.dumps(written, indent=1, ensure_ascii=False).encode() + b"\n"


def _name(plan: Plan) -> str:
    return f"{plan.name[:94]}-scout"


def _sampling(sampling: ScoutSampling) -> dict[str, str]:
    return {"strategy": "interval", "every": f"{sampling.every}ms"}
