"""The sampling plan: what a person writes, read and checked once."""

from rhombus_dataset.plan.model import Plan, RecordingsSource, RhombusSource
from rhombus_dataset.plan.read import load_plan
from rhombus_dataset.plan.starter import plan_json_schema, starter_plan

__all__ = [
    "Plan",
    "RecordingsSource",
    "RhombusSource",
    "load_plan",
    "plan_json_schema",
    "starter_plan",
]
