"""Commands before a build: plans and site files."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click

from rhombus_dataset.cli.group import PATH, echo, example, json_option, main, print_json


@main.command(epilog=example("init plan.yaml --site site.yaml"))
@click.argument("path", type=PATH, required=False)
@click.option("--site", type=PATH, help="Site file: write a plan for its cameras and all of their footage.")
@click.option("--url", help="Base address of the API: write a plan for its cameras and all of their footage.")
@click.option("--out", type=PATH, help="Another way to give PATH.")
def init(path: Path | None, site: Path | None, url: str | None, out: Path | None) -> None:
    """Write a starter plan to PATH.

    PATH is by default plan.yaml.
    """
    from rhombus_dataset import api

    if path is not None and out is not None:
        raise click.UsageError(f"PATH and --out: give one of them, got {path} and {out}")
    file = path or out or Path("plan.yaml")
    written = api.init(file, site=site, url=url, progress=sys.stderr)
    echo(f"{written}: starter plan written. Edit it, then run: rhombus-dataset plan {file}")


@main.command(epilog=example("cameras https://api2.rhombussystems.com"))
@click.argument("source", metavar="PLAN_OR_URL")
@json_option
def cameras(source: str, as_json: bool) -> None:
    """List the cameras of a camera cloud, and their footage.

    PLAN_OR_URL is the base address of the API, or a plan with an address, authentication and limits. Times are the
    camera's local times. The last footage is `now` if it is less than two minutes old: the cloud does not know more
    yet.
    """
    from rhombus_dataset import api

    found = api.list_cameras(source, progress=sys.stderr)
    if as_json:
        print_json(found.to_json())
    else:
        echo(found.to_text())


@main.group()
def site() -> None:
    """Describe recordings of your own as cameras."""


@site.command("init", epilog=example("site init dock.mp4 gate.mp4 --timezone America/Los_Angeles"))
@click.argument("videos", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, default=Path("site.yaml"), show_default=True, help="Site file to write.")
@click.option("--timezone", default="UTC", show_default=True, help="Time zone of the cameras, by its IANA name.")
def site_init(videos: tuple[Path, ...], out: Path, timezone: str) -> None:
    """Write a site file with a camera for each of VIDEOS.

    Check the start of each recording in it: the times of all frames follow from it.
    """
    from rhombus_dataset import api

    written = api.init_site(videos, out, timezone=timezone)
    echo(f"{written}: site file written. Check it, then run: rhombus-dataset init plan.yaml --site {out}")


@main.command(epilog=example("validate plan.yaml"))
@click.argument("plan", type=PATH)
@json_option
def validate(plan: Path, as_json: bool) -> None:
    """Check PLAN and list all of its mistakes."""
    from rhombus_dataset import api
    from rhombus_dataset.errors import InvalidFile

    try:
        checked = api.validate(plan)
    except InvalidFile as error:
        if not as_json:
            raise
        print_json({"valid": False, "problems": [dataclasses.asdict(p) for p in error.problems]})
        sys.exit(error.exit_code)
    if as_json:
        print_json({"valid": True, "name": checked.name, "problems": []})
    else:
        echo(f"{plan}: valid ({checked.name})")


@main.command(epilog=example("schema > plan.schema.json"))
def schema() -> None:
    """Print the JSON Schema of a plan. Editors use it to complete and check YAML."""
    from rhombus_dataset.plan.template import plan_json_schema

    print_json(plan_json_schema())


@main.command(epilog=example("plan plan.yaml --preview 6"))
@click.argument("plan", type=PATH)
@click.option("--out", type=PATH, default=Path("."), help="Folder of the dataset; its free disk space is shown.")
@click.option("--probe", is_flag=True, help="Fetch a few planned frames, and estimate the bytes from them.")
@click.option("--preview", type=int, metavar="N", help="Fetch N small frames and draw crops and masks on them.")
@click.option(
    "--preview-file", type=PATH, default=Path("preview.jpg"), show_default=True, help="File of the preview (JPEG)."
)
@click.option("--url", help="Base address of the API, instead of the plan's.")
@json_option
def plan(
    plan: Path, out: Path, probe: bool, preview: int | None, preview_file: Path, url: str | None, as_json: bool
) -> None:
    """Show what a build of PLAN would fetch.

    Frames, requests, bytes and time. Nothing is built.
    """
    from rhombus_dataset import api

    summary = api.dry_run(plan, out, probe=probe, url=url)
    if as_json:
        print_json(summary.to_json())
    else:
        echo(summary.to_text())
    if preview is not None:
        sheet = api.preview(plan, preview, preview_file, url=url)
        echo(f"preview: {sheet}", err=as_json)
