"""Commands for datasets: build, look, change, export."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rhombus_dataset.cli.group import PATH, echo, example, json_option, main, print_json
from rhombus_dataset.quality.text import counted


@main.command(epilog=example("build plan.yaml --out loading-dock"))
@click.argument("plan", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the dataset. An interrupted build is resumed.")
@click.option("--url", help="Base address of the API, instead of the plan's.")
@click.option(
    "--concurrency", type=int, metavar="N", help="Maximum number of requests in flight, instead of the plan's."
)
@click.option(
    "--retry",
    type=click.Choice(["failed", "missing", "corrupt"]),
    multiple=True,
    help="Fetch the rows with this status again: failed, missing or corrupt. Can be repeated.",
)
@click.option(
    "--reuse",
    type=PATH,
    metavar="OLD_DIR",
    help="Copy frames that this earlier dataset has, instead of fetching them.",
)
@click.option(
    "--min-ok",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="SHARE",
    help="Smallest share of the frames that must be ok for the build to be a success.",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def build(
    plan: Path,
    out: Path,
    url: str | None,
    concurrency: int | None,
    retry: tuple[str, ...],
    reuse: Path | None,
    min_ok: float,
    **show: bool,
) -> None:
    """Build the dataset of PLAN, or resume an interrupted build.

    Failed or corrupt frames, or too few that are ok, end in exit code 1 and the commonest reasons.
    """
    from rhombus_dataset import api
    from rhombus_dataset.building.stopper import Stopper
    from rhombus_dataset.frame import Status

    stopper = Stopper()
    with stopper:
        outcome = api.build(
            plan,
            out,
            url=url,
            concurrency=concurrency,
            retry=retry,
            reuse=reuse,
            stop=stopper.event,
            progress=None if show["quiet"] else sys.stderr,
        )
    counts = {str(status): outcome.counts.get(status, 0) for status in Status}
    if show["as_json"]:
        print_json(outcome.to_json())
    else:
        by_status = ", ".join(f"{n:,} {status}" for status, n in counts.items() if n)
        echo(
            f"{out}: {outcome.committed_shards:,} of {counted(outcome.shards, 'shard')}, "
            f"{counted(outcome.planned, 'frame')} planned ({by_status or 'none committed yet'}), "
            f"{counted(outcome.requests, 'request')} in {outcome.seconds:.1f} s"
        )
    if not outcome.complete:
        again = "".join(f" --retry {status}" for status in retry) + (f" --reuse {reuse}" if reuse else "")
        echo(f"stopped. To resume: rhombus-dataset build {plan} --out {out}{again}", err=True)
        sys.exit(stopper.exit_code)
    if outcome.same_bytes:
        echo(
            f"warning: {counted(outcome.same_bytes, 'image')} with the same bytes as an image of another split. "
            f"To see them: rhombus-dataset verify {out}",
            err=True,
        )
    if (problem := outcome.problem(min_ok)) is not None:
        echo(f"error: {problem}. The commonest reasons:", err=True)
        for why in outcome.reasons:
            echo(f"  {why.count:,} {why.status}: {why.reason}", err=True)
        lost = [status for status in ("failed", "corrupt") if counts[status]]
        again = "".join(f" --retry {status}" for status in lost)
        echo(
            f"To fetch them again: rhombus-dataset build {plan} --out {out}{again}"
            if lost
            else f"To see when and where: rhombus-dataset report {out}",
            err=True,
        )
        sys.exit(1)


@main.command(epilog=example("info loading-dock"))
@click.argument("dataset", type=PATH)
@json_option
def info(dataset: Path, as_json: bool) -> None:
    """Show what a dataset contains. DATASET is its folder."""
    from rhombus_dataset.api import info as read_info

    found = read_info(dataset)
    if as_json:
        print_json(found.to_json())
    else:
        echo(found.to_text())


@main.command(epilog=example("verify loading-dock --repair"))
@click.argument("dataset", type=PATH)
@click.option(
    "--repair",
    is_flag=True,
    help="Remove damaged frames, so that the next build fetches them again. Intact frames are kept.",
)
@json_option
def verify(dataset: Path, repair: bool, as_json: bool) -> None:
    """Check every hash, count and image of a dataset. DATASET is its folder."""
    from rhombus_dataset import api

    report = api.verify(dataset, repair=repair)
    if as_json:
        print_json(report.to_json())
    else:
        echo(report.to_text())
    if report.problems:
        sys.exit(1)


@main.command(epilog=example("erase loading-dock --camera dock-north --from 2026-06-01 --to 2026-06-02"))
@click.argument("dataset", type=PATH)
@click.option("--camera", required=True, help="Name or UUID of the camera.")
@click.option("--from", "start", metavar="TIME", help="Start, included. A date or time as in a plan.")
@click.option("--to", "end", metavar="TIME", help="End, excluded.")
@json_option
def erase(dataset: Path, camera: str, start: str | None, end: str | None, as_json: bool) -> None:
    """Delete frames of a camera permanently.

    DATASET is the folder of the dataset. The rows stay in the manifest, with status `erased`.
    """
    from rhombus_dataset import api

    outcome = api.erase(dataset, camera, start=start, end=end)
    if as_json:
        print_json({"camera": outcome.camera_name, "rows": outcome.rows, "shards": outcome.shards})
    else:
        echo(
            f"{dataset}: erased {counted(outcome.rows, 'row')} of {outcome.camera_name}, "
            f"rewrote {counted(outcome.shards, 'shard')}"
        )


@main.command(epilog=example("report loading-dock"))
@click.argument("dataset", type=PATH)
@json_option
def report(dataset: Path, as_json: bool) -> None:
    """Write an HTML report of a dataset.

    The file is report.html in the folder DATASET. It shows coverage, failures, measures, images and splits.
    """
    from rhombus_dataset import api

    path = api.report(dataset)
    if as_json:
        print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        echo(f"{path}: open it in a browser")


@main.command(epilog=example("export loading-dock --to yolo --out yolo --where \"split == 'train'\""))
@click.argument("dataset", type=PATH)
@click.option(
    "--to",
    required=True,
    metavar="FORMAT",
    help="huggingface, imagefolder, webdataset, coco, yolo, cvat or label-studio.",
)
@click.option("--out", type=PATH, required=True, help="Folder to create.")
@click.option(
    "--where", metavar="CONDITION", help="Export only matching frames, such as \"split == 'train' and luma > 40\"."
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def export(dataset: Path, to: str, out: Path, where: str | None, quiet: bool, as_json: bool) -> None:
    """Export a dataset for another tool. DATASET is its folder."""
    from rhombus_dataset import api
    from rhombus_dataset.dataset import open_dataset

    frames = open_dataset(dataset)
    if where is not None:
        frames = frames.filter(where)
    api.export(frames, to, out, progress=None if quiet else sys.stderr)
    if as_json:
        print_json({"out": str(out), "format": to, "frames": len(frames)})
    else:
        echo(f"{out}: {counted(len(frames), 'frame')} as {to}")
    if to == "yolo" and "box" not in frames.annotations().column("kind").to_pylist():
        echo("note: there are no boxes, and Ultralytics refuses a dataset without classes (nc: 0)", err=True)


@main.command("import-labels", epilog=example("import-labels loading-dock people.json --made-by ana"))
@click.argument("dataset", type=PATH)
@click.argument("labels", type=PATH)
@click.option(
    "--name", help="Name of these annotations. An import under the same name replaces them. Default: the file name."
)
@click.option("--made-by", metavar="WHO", help="Author of the labels, if the file names none.")
@json_option
def import_labels(dataset: Path, labels: Path, name: str | None, made_by: str | None, as_json: bool) -> None:
    """Add labels of another tool to a dataset.

    DATASET is its folder. LABELS is a COCO, Label Studio or CVAT file, or a YOLO folder.
    """
    from rhombus_dataset import api

    outcome = api.import_labels(dataset, labels, name=name, made_by=made_by)
    if as_json:
        print_json(outcome.to_json())
    else:
        echo(
            f"{outcome.file}: {outcome.boxes:,} {'box' if outcome.boxes == 1 else 'boxes'} and "
            f"{outcome.classes:,} {'class' if outcome.classes == 1 else 'classes'} "
            f"of {counted(outcome.frames, 'frame')}"
        )
        for label in outcome.skipped[:10]:
            echo(f"skipped: {label.image}: {label.label!r}: {label.problem}", err=True)
        if outcome.skipped:
            echo(f"{counted(len(outcome.skipped), 'label')} skipped; see {outcome.skipped_file}", err=True)
    if outcome.skipped:
        sys.exit(1)
