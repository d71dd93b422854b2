"""The group of all commands, and what they share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rhombus_dataset.errors import RhombusDatasetError, printable

PATH = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def example(arguments: str) -> str:
    """Return the end of a command's help. \\b keeps click from wrapping the next lines."""
    return f"\b\nExample:\n  rhombus-dataset {arguments}"


class _Group(click.Group):
    """Shows an error of this package as a message with an exit code. Any other exception is a bug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RhombusDatasetError as error:
            echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rhombus-dataset")
def main() -> None:
    """Build computer-vision datasets from camera-cloud footage, from a YAML sampling plan.

    The API key is read from the environment variable RHOMBUS_API_KEY, or from the file that
    RHOMBUS_API_KEY_FILE names.

    Exit codes: 0 success; 1 incomplete, failed, or too few frames; 2 wrong usage or invalid plan;
    130 interrupted; 143 terminated.
    """


def leaf_commands(group: click.Group = main, before: str = "") -> dict[str, click.Command]:
    """Return all commands by their names, such as `build` and `site init`: for the documentation."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        inner = leaf_commands(command, f"{before}{name} ") if isinstance(command, click.Group) else None
        found |= inner or {f"{before}{name}": command}
    return found


def echo(text: str, err: bool = False) -> None:
    click.echo(printable(text), err=err)


def print_json(value: Any) -> None:
    echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
