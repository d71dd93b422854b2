"""The command line. Each command is one call of a public function."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import types
from pathlib import Path
from typing import Any

import click

from rhombus_dataset.errors import MissingExtra, RhombusDatasetError

_PATH = click.Path(path_type=Path)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


class _Group(click.Group):
    """Turns this package's errors into a message and an exit code; anything else is a bug and shows."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RhombusDatasetError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rhombus-dataset")
def main() -> None:
    """Build computer-vision datasets from camera-cloud footage, from a YAML sampling plan.

    The API key comes from the environment: RHOMBUS_API_KEY, or RHOMBUS_API_KEY_FILE for a file that
    holds it.

    Exit codes: 0 complete, 1 incomplete or failed, 2 wrong use or an invalid plan, 130 interrupted.
    """


@main.command()
@click.argument("path", type=_PATH, default=Path("plan.yaml"))
def init(path: Path) -> None:
    """Write a commented starter plan to PATH."""
    from rhombus_dataset import api

    click.echo(f"{api.init(path)}: a starter plan. Edit it, then: rhombus-dataset plan {path}")


@main.command()
@click.argument("plan", type=_PATH)
@_json_option
def validate(plan: Path, as_json: bool) -> None:
    """Check PLAN, and list every mistake in it."""
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
        click.echo(f"{plan}: valid ({checked.name})")


@main.command()
def schema() -> None:
    """Print the JSON Schema of a plan, for editors that complete and check YAML."""
    from rhombus_dataset.plan.template import plan_json_schema

    _print_json(plan_json_schema())


@main.command()
@click.argument("plan", type=_PATH)
@click.option("--out", type=_PATH, default=Path("."), help="Where it will be built: its free disk.")
@click.option("--preview", type=int, metavar="N", help="Fetch N frames; draw crops and masks on them.")
@click.option(
    "--preview-file", type=_PATH, default=Path("preview.jpg"), show_default=True, help="Where to draw them."
)
@click.option("--url", help="Ask this address instead of the plan's.")
@_json_option
def plan(plan: Path, out: Path, preview: int | None, preview_file: Path, url: str | None, as_json: bool) -> None:
    """The dry run of PLAN: counts, requests, bytes and time, without building anything."""
    from rhombus_dataset import api

    summary = api.dry_run(plan, out)
    if as_json:
        _print_json(summary.to_json())
    else:
        click.echo(summary.to_text())
    if preview is not None:
        sheet = api.preview(plan, preview, preview_file, url=url)
        click.echo(f"preview: {sheet}", err=as_json)


@main.command()
@click.argument("plan", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The dataset's folder. Again: goes on.")
@click.option("--url", help="Ask this address instead of the plan's.")
@click.option("--concurrency", type=int, metavar="N", help="Keep N requests in flight instead.")
@click.option(
    "--retry",
    type=click.Choice(["failed", "missing", "corrupt"]),
    multiple=True,
    help="Ask again for such rows. May be given several times.",
)
@click.option(
    "--reuse",
    type=_PATH,
    metavar="OLD_DIR",
    help="Take frames that this earlier dataset holds, without a request.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@_json_option
def build(
    plan: Path,
    out: Path,
    url: str | None,
    concurrency: int | None,
    retry: tuple[str, ...],
    reuse: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Build the dataset of PLAN in a folder, or go on where an earlier run stopped."""
    from rhombus_dataset import api
    from rhombus_dataset.frame import Status

    stopper = _Stopper()
    with stopper:
        outcome = api.build(
            plan,
            out,
            url=url,
            concurrency=concurrency,
            retry=retry,
            reuse=reuse,
            stop=stopper.event,
            progress=None if quiet else sys.stderr,
        )
    counts = {str(status): outcome.counts.get(status, 0) for status in Status}
    if as_json:
        _print_json(
            {
                "out": str(outcome.out),
                "complete": outcome.complete,
                "planned": outcome.planned,
                "counts": counts,
                "shards": outcome.shards,
                "committed_shards": outcome.committed_shards,
                "requests": outcome.requests,
                "seconds": round(outcome.seconds, 3),
            }
        )
    else:
        told = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
        click.echo(
            f"{out}: {outcome.committed_shards} of {outcome.shards} shards, "
            f"{outcome.planned} frames planned ({told or 'none committed yet'}), "
            f"{outcome.requests} requests in {outcome.seconds:.1f} s"
        )
    if not outcome.complete:
        again = "".join(f" --retry {status}" for status in retry) + (f" --reuse {reuse}" if reuse else "")
        click.echo(f"stopped; to go on: rhombus-dataset build {plan} --out {out}{again}", err=True)
        sys.exit(stopper.exit_code)


@main.command()
@click.argument("dataset", type=_PATH)
@_json_option
def info(dataset: Path, as_json: bool) -> None:
    """What the dataset in the folder DATASET holds."""
    from rhombus_dataset.quality.summary import info as read_info

    found = read_info(dataset)
    if as_json:
        _print_json(found.to_json())
    else:
        click.echo(found.to_text())


@main.command()
@click.argument("dataset", type=_PATH)
@click.option("--repair", is_flag=True, help='What is damaged goes back to "not yet built"; what is whole is kept.')
@_json_option
def verify(dataset: Path, repair: bool, as_json: bool) -> None:
    """Check every hash, count and image of the dataset in the folder DATASET again."""
    from rhombus_dataset import api

    report = api.verify(dataset, repair=repair)
    if as_json:
        _print_json(report.to_json())
    else:
        click.echo(report.to_text())
    if report.problems:
        sys.exit(1)


@main.command()
@click.argument("dataset", type=_PATH)
@click.option("--camera", required=True, help="Its name or UUID.")
@click.option("--from", "start", metavar="TIME", help="From this time on; a date or time as in a plan.")
@click.option("--to", "end", metavar="TIME", help="To before this time.")
@_json_option
def erase(dataset: Path, camera: str, start: str | None, end: str | None, as_json: bool) -> None:
    """Take the frames of a camera out of the dataset in the folder DATASET, for good.

    Their rows stay in the manifest, as `erased`.
    """
    from rhombus_dataset import api

    outcome = api.erase(dataset, camera, start=start, end=end)
    if as_json:
        _print_json({"camera": outcome.camera_name, "rows": outcome.rows, "shards": outcome.shards})
    else:
        click.echo(
            f"{dataset}: {outcome.rows:,} rows of {outcome.camera_name} are erased; "
            f"{outcome.shards:,} shards were written anew"
        )


@main.command()
@click.argument("dataset", type=_PATH)
@_json_option
def report(dataset: Path, as_json: bool) -> None:
    """Write report.html into the folder DATASET: what is in it, to look at in a browser."""
    from rhombus_dataset import api

    path = api.report(dataset)
    if as_json:
        _print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        click.echo(f"{path}: open it in a browser")


@main.command()
@click.argument("dataset", type=_PATH)
@click.option(
    "--to",
    required=True,
    metavar="FORMAT",
    help="huggingface, imagefolder, webdataset, coco, yolo, cvat or label-studio.",
)
@click.option("--out", type=_PATH, required=True, help="A new folder.")
@click.option("--where", metavar="CONDITION", help="Only these frames, such as \"split == 'train' and luma > 40\".")
@click.option("--quiet", is_flag=True, help="No progress.")
@_json_option
def export(dataset: Path, to: str, out: Path, where: str | None, quiet: bool, as_json: bool) -> None:
    """Write the dataset in the folder DATASET as another tool reads it."""
    from rhombus_dataset import api
    from rhombus_dataset.dataset import open_dataset

    frames = open_dataset(dataset)
    if where is not None:
        frames = frames.filter(where)
    api.export(frames, to, out, progress=None if quiet else sys.stderr)
    if as_json:
        _print_json({"out": str(out), "format": to, "frames": len(frames)})
    else:
        click.echo(f"{out}: {len(frames):,} frames as {to}")


@main.command("import-labels")
@click.argument("dataset", type=_PATH)
@click.argument("labels", type=_PATH)
@click.option("--name", help="What to call them; importing again under a name replaces. By default the file's.")
@click.option("--made-by", metavar="WHO", help="Who or what made them, where the file does not say.")
@_json_option
def import_labels(dataset: Path, labels: Path, name: str | None, made_by: str | None, as_json: bool) -> None:
    """Join LABELS (COCO, Label Studio, CVAT, or a YOLO folder) to the frames of the folder DATASET."""
    from rhombus_dataset import api

    outcome = api.import_labels(dataset, labels, name=name, made_by=made_by)
    if as_json:
        _print_json(outcome.to_json())
    else:
        click.echo(
            f"{outcome.file}: {outcome.boxes:,} boxes and {outcome.classes:,} classes of {outcome.frames:,} frames"
        )
        for said in outcome.left[:10]:
            click.echo(f"left: {said.image}: {said.label!r}: {said.problem}", err=True)
        if outcome.left:
            click.echo(f"{len(outcome.left):,} labels were left; all are in {outcome.left_file}", err=True)
    if outcome.left:
        sys.exit(1)


@main.command()
@click.argument("site", type=_PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 picks one.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND=RATE",
    help="Spoil a share of the answers, such as http_503=0.05. May be given several times.",
)
@click.option("--fault-seed", type=int, help="Which requests meet a fault depends on it.")
def serve(site: Path, host: str, port: int, faults: tuple[str, ...], fault_seed: int | None) -> None:
    """Answer the camera cloud's API from the video files that SITE names."""
    try:
        from rhombus_dataset.server.run import serve as run
    except ModuleNotFoundError:
        raise MissingExtra("serve", "server") from None
    run(site, host=host, port=port, faults=faults, fault_seed=fault_seed)


@main.command()
@click.option("--out", type=_PATH, default=Path("demo-dataset"), show_default=True, help="Where to build it.")
def demo(out: Path) -> None:
    """Serve drawn demo cameras on this machine, and build a dataset from them over HTTP."""
    from rhombus_dataset.demo import run_demo

    run_demo(out)


class _Stopper:
    """The first Ctrl-C or SIGTERM asks a build to stop; a second one leaves at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.exit_code = 1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: types.FrameType | None) -> None:
        if self.event.is_set():
            # All that was received is in the journals: nothing is lost by leaving without a word.
            os._exit(128 + number)
        self.exit_code = 128 + number
        self.event.set()
        os.write(2, b"\nstopping: finishing what is in flight (again: leave at once)\n")


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


if __name__ == "__main__":
    main()
