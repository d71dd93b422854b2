"""Commands that serve the API on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from rhombus_dataset.cli.group import PATH, example, main
from rhombus_dataset.errors import MissingExtra


@main.command(epilog=example("serve site.yaml --port 8765"))
@click.argument("site", type=PATH)
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


@main.command(epilog=example("demo --out demo-dataset"))
@click.option("--out", type=PATH, default=Path("demo-dataset"), show_default=True, help="Folder of the dataset.")
def demo(out: Path) -> None:
    """Build a dataset from drawn demo cameras. A local server serves them: no account is needed."""
    from rhombus_dataset.demo import run_demo

    run_demo(out)
