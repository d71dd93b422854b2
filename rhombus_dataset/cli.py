"""The command line. Each command is one call of a public function."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

from rhombus_dataset.errors import MissingExtra, RhombusDatasetError, printable

_PATH = click.Path(path_type=Path)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def _example(arguments: str) -> str:
    """Return the end of a command's help. \\b keeps click from wrapping the next lines."""
    return f"\b\nExample:\n  rhombus-dataset {arguments}"


class _Group(click.Group):
    """Shows an error of this package as a message with an exit code. Any other exception is a bug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RhombusDatasetError as error:
            _echo(f"error: {error}", err=True)
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


@main.command(epilog=_example("init plan.yaml"))
@click.argument("path", type=_PATH, default=Path("plan.yaml"))
def init(path: Path) -> None:
    """Write a commented starter plan to PATH."""
    from rhombus_dataset import api

    _echo(f"{api.init(path)}: starter plan written. Edit it, then run: rhombus-dataset plan {path}")


@main.command(epilog=_example("validate plan.yaml"))
@click.argument("plan", type=_PATH)
@_json_option
def validate(plan: Path, as_json: bool) -> None:
    """Check PLAN and list all of its mistakes."""
    from rhombus_dataset import api
    from rhombus_dataset.errors import InvalidFile

    try:
        checked = api.validate(plan)
    except InvalidFile as error:
        if not as_json:
            raise
        _print_json({"valid": False, "problems": [dataclasses.asdict(p) for p in error.problems]})
        sys.exit(error.exit_code)
    if as_json:
        _print_json({"valid": True, "name": checked.name, "problems": []})
    else:
        _echo(f"{plan}: valid ({checked.name})")


@main.command(epilog=_example("schema > plan.schema.json"))
def schema() -> None:
    """Print the JSON Schema of a plan. Editors use it to complete and check YAML."""
    from rhombus_dataset.plan.template import plan_json_schema

    _print_json(plan_json_schema())


@main.command(epilog=_example("plan plan.yaml --preview 6"))
@click.argument("plan", type=_PATH)
@click.option("--out", type=_PATH, default=Path("."), help="Folder of the dataset; its free disk space is shown.")
@click.option("--preview", type=int, metavar="N", help="Fetch N small frames and draw crops and masks on them.")
@click.option(
    "--preview-file", type=_PATH, default=Path("preview.jpg"), show_default=True, help="File of the preview (JPEG)."
)
@click.option("--url", help="Base address of the API, instead of the plan's.")
@_json_option
def plan(plan: Path, out: Path, preview: int | None, preview_file: Path, url: str | None, as_json: bool) -> None:
    """Show what a build of PLAN would fetch.

    Frames, requests, bytes and time. Nothing is built.
    """
    from rhombus_dataset import api

    summary = api.dry_run(plan, out)
    if as_json:
        _print_json(summary.to_json())
    else:
        _echo(summary.to_text())
    if preview is not None:
        sheet = api.preview(plan, preview, preview_file, url=url)
        _echo(f"preview: {sheet}", err=as_json)


@main.command(epilog=_example("build plan.yaml --out loading-dock"))
@click.argument("plan", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="Folder of the dataset. An interrupted build is resumed.")
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
    type=_PATH,
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
@_json_option
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
        _print_json(outcome.to_json())
    else:
        by_status = ", ".join(f"{n:,} {status}" for status, n in counts.items() if n)
        _echo(
            f"{out}: {outcome.committed_shards:,} of {_counted(outcome.shards, 'shard')}, "
            f"{_counted(outcome.planned, 'frame')} planned ({by_status or 'none committed yet'}), "
            f"{_counted(outcome.requests, 'request')} in {outcome.seconds:.1f} s"
        )
    if not outcome.complete:
        again = "".join(f" --retry {status}" for status in retry) + (f" --reuse {reuse}" if reuse else "")
        _echo(f"stopped. To resume: rhombus-dataset build {plan} --out {out}{again}", err=True)
        sys.exit(stopper.exit_code)
    if outcome.same_bytes:
        _echo(
            f"warning: {_counted(outcome.same_bytes, 'image')} with the same bytes as an image of another split. "
            f"To see them: rhombus-dataset verify {out}",
            err=True,
        )
    if (problem := outcome.problem(min_ok)) is not None:
        _echo(f"error: {problem}. The commonest reasons:", err=True)
        for why in outcome.reasons:
            _echo(f"  {why.count:,} {why.status}: {why.reason}", err=True)
        lost = [status for status in ("failed", "corrupt") if counts[status]]
        again = "".join(f" --retry {status}" for status in lost)
        _echo(
            f"To fetch them again: rhombus-dataset build {plan} --out {out}{again}"
            if lost
            else f"To see when and where: rhombus-dataset report {out}",
            err=True,
        )
        sys.exit(1)


@main.command(epilog=_example("info loading-dock"))
@click.argument("dataset", type=_PATH)
@_json_option
def info(dataset: Path, as_json: bool) -> None:
    """Show what a dataset contains. DATASET is its folder."""
    from rhombus_dataset.api import info as read_info

    found = read_info(dataset)
    if as_json:
        _print_json(found.to_json())
    else:
        _echo(found.to_text())


@main.command(epilog=_example("verify loading-dock --repair"))
@click.argument("dataset", type=_PATH)
@click.option(
    "--repair",
    is_flag=True,
    help="Remove damaged frames, so that the next build fetches them again. Intact frames are kept.",
)
@_json_option
def verify(dataset: Path, repair: bool, as_json: bool) -> None:
    """Check every hash, count and image of a dataset. DATASET is its folder."""
    from rhombus_dataset import api

    report = api.verify(dataset, repair=repair)
    if as_json:
        _print_json(report.to_json())
    else:
        _echo(report.to_text())
    if report.problems:
        sys.exit(1)


@main.command(epilog=_example("erase loading-dock --camera dock-north --from 2026-06-01 --to 2026-06-02"))
@click.argument("dataset", type=_PATH)
@click.option("--camera", required=True, help="Name or UUID of the camera.")
@click.option("--from", "start", metavar="TIME", help="Start, included. A date or time as in a plan.")
@click.option("--to", "end", metavar="TIME", help="End, excluded.")
@_json_option
def erase(dataset: Path, camera: str, start: str | None, end: str | None, as_json: bool) -> None:
    """Delete frames of a camera permanently.

    DATASET is the folder of the dataset. The rows stay in the manifest, with status `erased`.
    """
    from rhombus_dataset import api

    outcome = api.erase(dataset, camera, start=start, end=end)
    if as_json:
        _print_json({"camera": outcome.camera_name, "rows": outcome.rows, "shards": outcome.shards})
    else:
        _echo(
            f"{dataset}: erased {_counted(outcome.rows, 'row')} of {outcome.camera_name}, "
            f"rewrote {_counted(outcome.shards, 'shard')}"
        )


@main.command(epilog=_example("report loading-dock"))
@click.argument("dataset", type=_PATH)
@_json_option
def report(dataset: Path, as_json: bool) -> None:
    """Write an HTML report of a dataset.

    The file is report.html in the folder DATASET. It shows coverage, failures, measures, images and splits.
    """
    from rhombus_dataset import api

    path = api.report(dataset)
    if as_json:
        _print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        _echo(f"{path}: open it in a browser")


@main.command(epilog=_example("export loading-dock --to yolo --out yolo --where \"split == 'train'\""))
@click.argument("dataset", type=_PATH)
@click.option(
    "--to",
    required=True,
    metavar="FORMAT",
    help="huggingface, imagefolder, webdataset, coco, yolo, cvat or label-studio.",
)
@click.option("--out", type=_PATH, required=True, help="Folder to create.")
@click.option(
    "--where", metavar="CONDITION", help="Export only matching frames, such as \"split == 'train' and luma > 40\"."
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@_json_option
def export(dataset: Path, to: str, out: Path, where: str | None, quiet: bool, as_json: bool) -> None:
    """Export a dataset for another tool. DATASET is its folder."""
    from rhombus_dataset import api
    from rhombus_dataset.dataset import open_dataset

    frames = open_dataset(dataset)
    if where is not None:
        frames = frames.filter(where)
    api.export(frames, to, out, progress=None if quiet else sys.stderr)
    if as_json:
        _print_json({"out": str(out), "format": to, "frames": len(frames)})
    else:
        _echo(f"{out}: {_counted(len(frames), 'frame')} as {to}")
    if to == "yolo" and "box" not in frames.annotations().column("kind").to_pylist():
        _echo("note: there are no boxes, and Ultralytics refuses a dataset without classes (nc: 0)", err=True)


@main.command("import-labels", epilog=_example("import-labels loading-dock people.json --made-by ana"))
@click.argument("dataset", type=_PATH)
@click.argument("labels", type=_PATH)
@click.option(
    "--name", help="Name of these annotations. An import under the same name replaces them. Default: the file name."
)
@click.option("--made-by", metavar="WHO", help="Author of the labels, if the file names none.")
@_json_option
def import_labels(dataset: Path, labels: Path, name: str | None, made_by: str | None, as_json: bool) -> None:
    """Add labels of another tool to a dataset.

    DATASET is its folder. LABELS is a COCO, Label Studio or CVAT file, or a YOLO folder.
    """
    from rhombus_dataset import api

    outcome = api.import_labels(dataset, labels, name=name, made_by=made_by)
    if as_json:
        _print_json(outcome.to_json())
    else:
        _echo(
            f"{outcome.file}: {outcome.boxes:,} {'box' if outcome.boxes == 1 else 'boxes'} and "
            f"{outcome.classes:,} {'class' if outcome.classes == 1 else 'classes'} "
            f"of {_counted(outcome.frames, 'frame')}"
        )
        for label in outcome.skipped[:10]:
            _echo(f"skipped: {label.image}: {label.label!r}: {label.problem}", err=True)
        if outcome.skipped:
            _echo(f"{_counted(len(outcome.skipped), 'label')} skipped; see {outcome.skipped_file}", err=True)
    if outcome.skipped:
        sys.exit(1)


@main.command(epilog=_example("serve site.yaml --port 8765"))
@click.argument("site", type=_PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port to listen on. 0: any free port.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND=RATE",
    help="Inject a fault into a share of the replies, such as http_503=0.05. Can be repeated.",
)
@click.option("--fault-seed", type=int, help="Seed that decides which requests get a fault.")
def serve(site: Path, host: str, port: int, faults: tuple[str, ...], fault_seed: int | None) -> None:
    """Serve the API of the camera cloud from video files.

    SITE is a site file: it describes the cameras and their recordings.
    """
    try:
        from rhombus_dataset.server.run import serve as run
    except ModuleNotFoundError:
        raise MissingExtra("serve", "server") from None
    run(site, host=host, port=port, faults=faults, fault_seed=fault_seed)


@main.command(epilog=_example("demo --out demo-dataset"))
@click.option("--out", type=_PATH, default=Path("demo-dataset"), show_default=True, help="Folder of the dataset.")
def demo(out: Path) -> None:
    """Build a dataset from drawn demo cameras. A local server serves them: no account is needed."""
    from rhombus_dataset.demo import run_demo

    run_demo(out)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _echo(text: str, err: bool = False) -> None:
    click.echo(printable(text), err=err)


def _print_json(value: Any) -> None:
    _echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


if __name__ == "__main__":
    main()
