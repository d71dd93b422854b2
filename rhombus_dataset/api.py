"""The public functions. A command of ``rhombus-dataset`` is one call of one of these; each of these is one call.

Each imports what it needs: the command line starts in a fraction of the time that importing everything takes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rhombus_dataset.errors import UsageError

if TYPE_CHECKING:
    from rhombus_dataset.building.camera_list import CameraList
    from rhombus_dataset.building.erase_frames import ErasureOutcome
    from rhombus_dataset.building.outcome import BuildOutcome
    from rhombus_dataset.dataset import Dataset
    from rhombus_dataset.labels.importer import LabelsOutcome
    from rhombus_dataset.plan.model import Plan
    from rhombus_dataset.planning.dry_run import DryRun
    from rhombus_dataset.planning.schedule import Schedule
    from rhombus_dataset.quality.summary import DatasetInfo
    from rhombus_dataset.quality.verification import VerifyReport

StrPath = str | os.PathLike[str]


def validate(plan: StrPath) -> Plan:
    """Read and validate a plan file, and its timestamps file. Raises InvalidFile with every mistake in it."""
    from rhombus_dataset.plan.loader import load_plan

    now_ms = _now_ms()
    checked = load_plan(Path(plan), now_ms=now_ms)
    if checked.sampling.strategy == "timestamps":
        from rhombus_dataset.planning.resolve import resolve

        resolve(checked, now_ms)  # reads the file
    return checked


def init(
    path: StrPath, *, site: StrPath | None = None, url: str | None = None, progress: TextIO | None = None
) -> Path:
    """Write a commented starter plan and return its path.

    With ``site``, a site file: a plan for its cameras, with their time zones and all of their footage. With
    ``url``, the address of a camera cloud: the same for its cameras, see :func:`list_cameras`. Raises UsageError
    where a file of that name exists, InvalidFile for the site file, and the errors of :func:`list_cameras`.
    """
    from rhombus_dataset.plan.template import refuse_existing, starter_plan, write_new

    file = Path(path)
    refuse_existing(file)
    if site is not None and url is not None:
        raise UsageError("site and url: a plan has one source, so give one of them")
    if url is not None:
        from rhombus_dataset.building.camera_list import plan_of_cameras

        return write_new(file, plan_of_cameras(list_cameras(url, progress=progress), str(path)))
    if site is None:
        return write_new(file, starter_plan())
    from rhombus_dataset.sources.recordings.own_footage import plan_text
    from rhombus_dataset.sources.recordings.site import load_site

    named = os.path.relpath(os.path.abspath(site), os.path.abspath(file.parent))
    return write_new(file, plan_text(load_site(Path(site)), named, str(path)))


def init_site(videos: Sequence[StrPath], path: StrPath, *, timezone: str = "UTC") -> Path:
    """Write a site file with a camera for each video file, and return its path.

    A recording starts at the creation time that its file names, or ends when the file was last changed.
    ``timezone``: IANA name, of all cameras. Raises UsageError where the file exists, and InvalidFile with all
    videos that cannot be read.
    """
    from rhombus_dataset.plan.template import write_new
    from rhombus_dataset.sources.recordings.own_footage import site_text

    file = Path(path)
    return write_new(file, site_text([Path(video) for video in videos], file.parent, timezone, str(path)))


def list_cameras(source: StrPath, *, progress: TextIO | None = None) -> CameraList:
    """Return the cameras of a camera cloud, with their time zones and when each has footage.

    ``source`` is an address such as ``https://api2.rhombussystems.com``, or a plan: its address, authentication and
    limits are then used. Sends two requests, and one for each camera. Notes about long waits are written to
    ``progress``. The API key comes from the environment, as for :func:`build`.

    Raises UsageError, InvalidFile, AccessRefused, HostUnreachable, QuotaExhausted, and SourceFailing for a server
    that does not list its cameras. A camera whose footage cannot be learnt raises nothing: it has a ``problem``.
    """
    from rhombus_dataset.building.camera_list import fetch_camera_list
    from rhombus_dataset.building.progress import ProgressDisplay

    with ProgressDisplay(progress) as display:
        return fetch_camera_list(str(source), display.on_note, _now_ms())


def schedule_of(plan: StrPath) -> Schedule:
    """Return every frame that a build of ``plan`` would request, without requesting any.

    Raises InvalidFile, and UsageError where the splits cannot be made, or for a plan that scouts: its frames are
    known once its scout pass is complete.
    """
    from rhombus_dataset.building.passes import planned_schedule

    return planned_schedule(validate(plan), _now_ms())


def dry_run(plan: StrPath, out: StrPath = ".", *, probe: bool = False, url: str | None = None) -> DryRun:
    """Return what a build of ``plan`` into ``out`` would cost: frames, requests, bytes and time.

    With ``probe``, one frame of each view is fetched from up to three cameras, at ``url`` or the plan's address.
    The bytes are estimated from these frames. A plan with recordings is always measured in this way.

    For a plan that scouts: the cost of its scout pass and of what follows; and, once ``out`` holds the result of
    the pass, the chosen frames. Without ``probe``, it sends no request. Raises the errors of :func:`schedule_of`,
    and with ``probe`` also AccessRefused and HostUnreachable.
    """
    from rhombus_dataset.building.passes import dry_run_plan

    return dry_run_plan(validate(plan), Path(out), _now_ms(), probe, url)


def preview(plan: StrPath, count: int, image: StrPath, *, url: str | None = None) -> Path:
    """Fetch ``count`` moments of the plan as small full frames, and draw its crops and masks on them.

    The moments are spread evenly over the schedule. The contact sheet is written to ``image`` (JPEG). Returns its
    path. Raises the errors of :func:`schedule_of`, AccessRefused and HostUnreachable.
    """
    from rhombus_dataset.building.preview import write_preview

    return write_preview(validate(plan), count, Path(image), url, _now_ms())


def build(
    plan: StrPath,
    out: StrPath,
    *,
    url: str | None = None,
    concurrency: int | None = None,
    retry: Collection[str] = (),
    reuse: StrPath | None = None,
    stop: threading.Event | None = None,
    progress: TextIO | None = None,
) -> BuildOutcome:
    """Build the dataset of ``plan`` in the folder ``out``, or continue a build that was stopped.

    A plan with strategy `scout` is built in two passes: small frames in ``out/scout``, then the frames that were
    chosen from them. If the first pass was stopped, its outcome is returned.

    ``url`` replaces the address in the plan, ``concurrency`` (1 to 256) the number of requests in flight; neither
    changes the dataset. ``retry`` requests the rows again that are ``"failed"``, ``"missing"`` (footage may be
    uploaded late) or ``"corrupt"``, and rewrites only the shards that change. ``reuse`` is an earlier dataset:
    frames of the same camera, time, geometry and masks are taken from it without a request. Setting ``stop`` ends
    the build early, as Ctrl-C does: requests in flight are finished, and the next call continues. A progress bar,
    or lines, are written to ``progress``. The API key comes from the environment (``RHOMBUS_API_KEY`` or
    ``RHOMBUS_API_KEY_FILE``). A frame that fails raises nothing: it is a row of the manifest.

    Raises InvalidFile, UsageError, OtherDataset (``out`` holds something else), AccessRefused, HostUnreachable,
    SourceFailing and StorageError.
    """
    from rhombus_dataset.building.passes import BuildOptions, build_dataset
    from rhombus_dataset.building.progress import ProgressDisplay

    options = BuildOptions(url, concurrency, retry, None if reuse is None else Path(reuse))
    with ProgressDisplay(progress) as display:
        return build_dataset(Path(plan), Path(out), options, stop or threading.Event(), display, _now_ms())


def info(dataset: StrPath) -> DatasetInfo:
    """Return what a dataset holds, from its manifest alone. Raises DatasetError where there is none."""
    from rhombus_dataset.quality.summary import summarize_dataset

    return summarize_dataset(Path(dataset))


def verify(dataset: StrPath, *, repair: bool = False) -> VerifyReport:
    """Check every hash, count and image of a dataset.

    With ``repair``, damaged shards become "not yet built": their undamaged frames are kept, and the next build
    requests the rest. The report describes the dataset as it was before.

    Raises DatasetError where there is no dataset at all, and StorageError.
    """
    from rhombus_dataset.building.repair import repair_dataset
    from rhombus_dataset.quality.verification import verify_dataset

    return repair_dataset(Path(dataset)) if repair else verify_dataset(Path(dataset))


def erase(dataset: StrPath, camera: str, *, start: str | None = None, end: str | None = None) -> ErasureOutcome:
    """Erase every frame of ``camera`` (its name or UUID) from ``start`` to before ``end``.

    Dates and times are written as in a plan: without an offset they are local times of the camera. None is no
    bound. The images are removed from data and journals, with their labels and the report (it has small images).
    Exports are copies and are not changed. The rows stay in the manifest as `erased`, and no build, retry or repair
    of this dataset brings them back. If it is interrupted, the next build or erasure completes it.

    Raises DatasetError, UsageError and StorageError.
    """
    from rhombus_dataset.building.erase_frames import erase_frames

    return erase_frames(Path(dataset), camera, start, end)


def export(dataset: Dataset | StrPath, to: str, out: StrPath, *, progress: TextIO | None = None) -> Path:
    """Write a dataset, or a part of it such as ``open_dataset(path).filter(...)``, in the format of another tool.

    ``to`` is `huggingface`, `imagefolder`, `webdataset`, `coco`, `yolo`, `cvat` or `label-studio`; ``out`` is a new
    folder. It appears complete or not at all, and the same frames and annotations give the same bytes. A progress
    bar, or lines, are written to ``progress``. Returns ``out``.

    Raises UsageError, DatasetError and StorageError.
    """
    from rhombus_dataset.building.progress import ProgressDisplay
    from rhombus_dataset.exports.formats import export_dataset
    from rhombus_dataset.frame import Status

    with ProgressDisplay(progress) as display:
        return export_dataset(dataset, to, Path(out), display.begin, lambda: display.on_frame(Status.OK))


def report(dataset: StrPath) -> Path:
    """Write ``report.html`` into a dataset: coverage, outcomes, measures, images, splits and leakage. Returns its
    path.

    One file that opens in any browser, without a network. The same dataset gives the same bytes.

    Raises DatasetError and StorageError.
    """
    from rhombus_dataset.reports.page import write_report

    return write_report(Path(dataset))


def import_labels(
    dataset: StrPath, labels: StrPath, *, name: str | None = None, made_by: str | None = None
) -> LabelsOutcome:
    """Join labels that people or models made to the frames of a dataset, as its annotations called ``name``.

    ``labels`` is a COCO or Label Studio file (.json), a CVAT file (.xml) or a YOLO folder. The frame of a label is
    found by the ``frame_id`` in its image's file name, as exports write it. ``name`` is by default the file's name;
    importing under a name again replaces those annotations. ``made_by`` says who or what made them, where the file
    does not. Labels that match no frame, or are neither boxes nor classes, are skipped: they are in the outcome and
    in a file beside the annotations.

    Raises UsageError, DatasetError and StorageError.
    """
    from rhombus_dataset.labels.importer import run_import

    return run_import(Path(dataset), Path(labels), name, made_by)


def _now_ms() -> int:
    """Return the present time: UTC epoch milliseconds."""
    return time.time_ns() // 1_000_000
