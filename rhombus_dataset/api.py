"""The public functions. Each command of ``rhombus-dataset`` is one call of one of these."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, TextIO

from rhombus_dataset.building.erase_frames import ErasureOutcome, erase_frames
from rhombus_dataset.building.fetch import Deferred, Fetcher
from rhombus_dataset.building.progress import Progress
from rhombus_dataset.building.rate_limiter import RateLimiter
from rhombus_dataset.building.repair import reopen_shards
from rhombus_dataset.building.run import BuildOutcome, run_build
from rhombus_dataset.cards.readme import write_cards
from rhombus_dataset.dataset import Dataset, open_dataset
from rhombus_dataset.errors import BuildError, MissingExtra, RhombusDatasetError, UsageError
from rhombus_dataset.exports.formats import run_export
from rhombus_dataset.frame import FrameRequest, Outcome, Status
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.imaging.contact_sheet import MAX_TILES, Tile, contact_sheet
from rhombus_dataset.imaging.jpeg import decode_rgb
from rhombus_dataset.labels.importer import LabelsOutcome, run_import
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.plan.model import LocalTime, Plan, RhombusSource, ScoutSampling, check_encrypted, check_url
from rhombus_dataset.plan.template import starter_plan
from rhombus_dataset.plan.values import parse_moment
from rhombus_dataset.planning.dry_run import PlanSummary, summarize, summarize_scouting
from rhombus_dataset.planning.lock import Selection, load_lock, resolve, scout_inputs_sha256
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.quality.duplicates import write_duplicates
from rhombus_dataset.quality.verification import VerifyReport
from rhombus_dataset.quality.verification import verify as verify_dataset
from rhombus_dataset.reports.page import write_report
from rhombus_dataset.scout.pass_plan import scout_pass, scout_pass_text
from rhombus_dataset.scout.picks import select_frames
from rhombus_dataset.sources import FrameSource
from rhombus_dataset.sources.rhombus.credentials import read_api_key
from rhombus_dataset.store.files import exclusive_lock, free_bytes, make_folders, write_file
from rhombus_dataset.store.layout import CARD_FILE, LOCK_FILE, SCOUT_FOLDER

PREVIEW_DOWNSCALE: Final = 4
"""Previews show the full frame at a quarter of its width and height."""


def validate(plan: str | os.PathLike[str]) -> Plan:
    """Read and check a plan. Raises InvalidFile with every mistake that it holds."""
    return load_plan(Path(plan), now_ms=_now_ms())


def init(path: str | os.PathLike[str]) -> Path:
    """Write a commented starter plan. Raises UsageError where a file of that name stands already."""
    target = Path(path)
    if target.exists():
        raise UsageError(f"{target}: exists already, and is left as it is: choose another name")
    make_folders(target.parent)
    write_file(target, starter_plan().encode())
    return target


def schedule_of(plan: str | os.PathLike[str]) -> Schedule:
    """Every frame that a build of ``plan`` would ask for, without asking for any.

    Raises InvalidFile, or UsageError where the splits cannot be made, and for a plan that scouts: its frames are
    known once its pass is done.
    """
    return sample(resolve(validate(plan), _now_ms()))


def dry_run(plan: str | os.PathLike[str], out: str | os.PathLike[str] = ".") -> PlanSummary:
    """What a build of ``plan`` into ``out`` would come to: frames, requests, bytes and time.

    Of a plan that scouts: what its pass would come to, and what is to follow; and, once ``out`` holds what the pass
    has found, the frames that were chosen. Sends nothing. Raises as :func:`schedule_of`.
    """
    checked = validate(plan)
    free = free_bytes(Path(out))
    if isinstance(checked.sampling, ScoutSampling):
        if not (Path(out) / LOCK_FILE).exists():
            return summarize_scouting(checked, sample(resolve(scout_pass(checked), _now_ms())), free)
        old = load_lock(Path(out))
        planned = sample(resolve(checked, old.now_ms or _now_ms(), old.picks))
    else:
        planned = sample(resolve(checked, _now_ms()))
    limits = checked.source.limits
    return summarize(planned, checked.name, limits.requests_per_second, limits.burst, free)


def preview(
    plan: str | os.PathLike[str],
    count: int,
    image: str | os.PathLike[str],
    *,
    url: str | None = None,
) -> Path:
    """Fetch ``count`` of the plan's moments as small full frames; draw its crops and masks on them.

    The moments are spread evenly over the schedule. The sheet is written to ``image`` (JPEG). Raises as
    :func:`schedule_of`, and AccessRefused or HostUnreachable.
    """
    if not 1 <= count <= MAX_TILES:
        raise UsageError(f"a preview shows 1 to {MAX_TILES} frames, got {count}")
    checked = validate(plan)
    # What a plan that scouts will choose is not known: what it looks at is.
    looked = scout_pass(checked) if isinstance(checked.sampling, ScoutSampling) else checked
    planned = sample(resolve(looked, _now_ms()))
    views = {camera.uuid: camera.views for camera in checked.cameras}
    limits = checked.source.limits
    tiles: list[Tile] = []
    with _opened(checked, url) as source:
        stop = threading.Event()
        fetcher = Fetcher(source, RateLimiter(limits.requests_per_second, limits.burst, stop), 2, lambda *_: None)
        for row in sorted({i * len(planned) // count for i in range(min(count, len(planned)))}):
            camera = planned.camera_of(row)
            request = planned.request(row)
            whole = FrameRequest(request.camera_uuid, request.timestamp_ms, Geometry(downscale=PREVIEW_DOWNSCALE))
            outcome = fetcher.fetch(whole)
            tiles.append(
                Tile(
                    image=decode_rgb(outcome.image)
                    if isinstance(outcome, Outcome) and outcome.image is not None
                    else None,
                    caption=(camera.name, str(planned.local_time(row))),
                    reason=None if isinstance(outcome, Deferred) else outcome.reason,
                    crops={n: checked.views[n] for n in views[camera.uuid] if checked.views[n].is_cropped},
                    masks=camera.masks,
                )
            )
    target = Path(image)
    make_folders(target.parent)
    write_file(target, contact_sheet(tiles))
    return target


def build(
    plan: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    url: str | None = None,
    concurrency: int | None = None,
    retry: Collection[str] = (),
    reuse: str | os.PathLike[str] | None = None,
    stop: threading.Event | None = None,
    progress: TextIO | None = None,
) -> BuildOutcome:
    """Build the dataset of ``plan`` in the folder ``out``, or go on where an earlier run stopped.

    A plan with strategy `scout` is built in two steps: the small frames of its pass, in ``out/scout``, and then the
    frames that were chosen; if the pass was stopped, the outcome is the pass's.

    ``url`` asks another address than the plan's, ``concurrency`` (1 to 256) with another number of requests
    in flight; neither changes the dataset. ``retry`` asks again for the rows that are ``"failed"``,
    ``"missing"`` (footage is uploaded late) or ``"corrupt"``, and rewrites just the shards that change by it.
    ``reuse`` is an earlier dataset: frames of the same camera, time, geometry and masks are taken from it
    without a request. Setting ``stop`` ends the build early, as Ctrl-C does:
    what is in flight is finished, and calling again goes on. ``progress`` is where a bar, or lines,
    are written. The API key comes from the environment (``RHOMBUS_API_KEY`` or
    ``RHOMBUS_API_KEY_FILE``). No frame's failure raises: it is a row of the manifest.

    Raises InvalidFile, UsageError, OtherDataset (``out`` holds something else), AccessRefused,
    HostUnreachable, StorageError.
    """
    path = Path(plan)
    checked = validate(path)
    if concurrency is not None:
        checked = _with_concurrency(checked, concurrency)
    again = _statuses_to_retry(retry)
    stop = stop or threading.Event()
    limits = checked.source.limits
    with _opened(checked, url) as source, Progress(progress) as shown:
        # One quota, whatever the passes.
        building = _Building(source, RateLimiter(limits.requests_per_second, limits.burst, stop), stop, shown)
        folder, text = Path(out), path.read_bytes()
        reused = None if reuse is None else Path(reuse)
        chosen = (folder / LOCK_FILE).exists()
        if isinstance(checked.sampling, ScoutSampling) and not (chosen and _scouted(folder) is None):
            if not chosen:
                shown.on_note("first a scout pass of small frames; then full frames of what is new in them")
            scouted = building.run(
                scout_pass(checked), scout_pass_text(checked, text), folder / SCOUT_FOLDER, reuse=_scouted(reused)
            )
            if not scouted.complete:
                return dataclasses.replace(scouted, out=folder)
            # `end: now` means what it meant for the pass.
            now_ms = load_lock(folder / SCOUT_FOLDER).now_ms or _now_ms()
            picks = None
            if not chosen:
                picks = _picks(checked, folder / SCOUT_FOLDER, now_ms)
                shown.on_note(_chosen_in_words(picks))
            outcome = building.run(checked, text, folder, again, reused, picks, now_ms)
            return dataclasses.replace(
                outcome,
                requests=outcome.requests + scouted.requests,
                seconds=outcome.seconds + scouted.seconds,
            )
        return building.run(checked, text, folder, again, reused)


@dataclasses.dataclass(frozen=True)
class _Building:
    """What the passes of one build share."""

    source: FrameSource
    quota: RateLimiter
    stop: threading.Event
    shown: Progress

    def run(
        self,
        plan: Plan,
        text: bytes,
        out: Path,
        retry: frozenset[Status] = frozenset(),
        reuse: Path | None = None,
        picks: Selection | None = None,
        now_ms: int | None = None,
    ) -> BuildOutcome:
        try:
            outcome = run_build(
                plan,
                text,
                out,
                self.source,
                now_ms=now_ms or _now_ms(),
                quota=self.quota,
                stop=self.stop,
                on_start=self.shown.on_start,
                on_frame=self.shown.on_frame,
                on_note=self.shown.on_note,
                retry=retry,
                reuse=reuse,
                picks=picks,
            )
        except BuildError:
            # What was put in place before goes into the card; what stopped the build is told all the same.
            with contextlib.suppress(RhombusDatasetError):
                if (out / CARD_FILE).exists():
                    write_cards(out)
            raise
        if outcome.complete:
            _write_what_follows(out)
        elif outcome.stands:
            # A retry was stopped: whoever stops it does not wait for all images to be compared.
            write_cards(out)
        return outcome


def _scouted(dataset: Path | None) -> Path | None:
    """The scout pass of an earlier dataset, if it has one."""
    return None if dataset is None or not (dataset / SCOUT_FOLDER / LOCK_FILE).exists() else dataset / SCOUT_FOLDER


def _picks(plan: Plan, pass_folder: Path, now_ms: int) -> Selection:
    """What a plan chooses from its complete scout pass."""
    chosen_by = scout_inputs_sha256(plan, now_ms)
    splits = None if plan.splits is None else plan.splits.model_dump(mode="json")
    picks = select_frames(pass_folder, plan.sampling.model_dump(mode="json"), plan.seed, splits)
    return dataclasses.replace(picks, about={**picks.about, "inputs_sha256": chosen_by})


def _chosen_in_words(picks: Selection) -> str:
    about = picks.about
    return (
        f"scout pass: {about['new']:,} of {about['pass_ok']:,} small frames show something new, in "
        f"{about['events']:,} events; {about['chosen']:,} moments were chosen, of {about['covered']:,} events"
    )


def verify(dataset: str | os.PathLike[str], *, repair: bool = False) -> VerifyReport:
    """Check every hash, count and image of a dataset again.

    With ``repair``, shards that are damaged go back to "not yet built": what is whole in them is kept, and the
    next build asks for the rest. The report is of the dataset as it was found.

    Raises DatasetError where there is no dataset at all, and StorageError.
    """
    report = verify_dataset(Path(dataset))
    stems = sorted({fault.shard for fault in report.problems if fault.shard is not None})
    if not repair or not stems:
        return report
    of_pass = [stem.removeprefix(f"{SCOUT_FOLDER}/") for stem in stems if stem.startswith(f"{SCOUT_FOLDER}/")]
    own = [stem for stem in stems if not stem.startswith(f"{SCOUT_FOLDER}/")]
    kept = lost = 0
    for folder, of_folder in ((Path(dataset), own), (Path(dataset) / SCOUT_FOLDER, of_pass)):
        if of_folder:
            of_whole, of_damaged = reopen_shards(folder, of_folder)
            kept, lost = kept + of_whole, lost + of_damaged
    return dataclasses.replace(report, repaired=tuple(stems), kept=kept, lost=lost)


def erase(
    dataset: str | os.PathLike[str],
    camera: str,
    *,
    start: str | None = None,
    end: str | None = None,
) -> ErasureOutcome:
    """Take every frame of ``camera`` (its name or UUID) out of a dataset, from ``start`` to before ``end``.

    Dates and times as in a plan: without an offset, they are the camera's local ones; None is without bound.
    The images are gone from data and journals then, what was labelled on them and the report (with its
    small images) too; exports are copies and are not touched. Their rows stay in the manifest as `erased`, and no
    build, retry or repair of this dataset brings them back. Killed half-way, the next build or erasure
    finishes it.

    Raises DatasetError, UsageError and StorageError.
    """
    bounds = _moment("start", start), _moment("end", end)
    if (scouted := _scouted(Path(dataset))) is not None:
        # Small images of a person are images of a person.
        erase_frames(scouted, camera, *bounds)
        if (scouted / CARD_FILE).exists():
            _write_what_follows(scouted)
    outcome = erase_frames(Path(dataset), camera, *bounds)
    if (outcome.dataset / CARD_FILE).exists():
        _write_what_follows(outcome.dataset)
    return outcome


def export(
    dataset: Dataset | str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str],
    *,
    progress: TextIO | None = None,
) -> Path:
    """Write a dataset, or a part of one such as ``open_dataset(path).filter(...)``, as another tool reads it.

    ``to`` is `huggingface`, `imagefolder`, `webdataset`, `coco`, `yolo`, `cvat` or `label-studio`; ``out`` is a new
    folder. It appears whole or not at all, and the same frames and annotations give the same bytes.
    ``progress`` is where a bar, or lines, are written.

    Raises UsageError, DatasetError and StorageError.
    """
    target = Path(out)
    frames = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    with Progress(progress) as shown:
        shown.begin(len(frames))
        run_export(frames.watched(lambda: shown.on_frame(Status.OK)), to, target)
    return target


def report(dataset: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into a dataset: coverage, outcomes, measures, images, splits and their leaks.

    One file that opens in any browser, without a network. The same dataset gives the same bytes.

    Raises DatasetError and StorageError.
    """
    return write_report(Path(dataset))


def import_labels(
    dataset: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    name: str | None = None,
    made_by: str | None = None,
) -> LabelsOutcome:
    """Join what people or models labelled to the frames of a dataset, as its annotations called ``name``.

    ``labels`` is a COCO or Label Studio file (.json), a CVAT file (.xml) or a YOLO folder. A label's frame is told
    by the id in its image's file name, as exports write it. ``name`` is by default the file's; importing under it
    again replaces what was there. ``made_by`` is who made them, where the file does not say. Labels that match no
    frame, or are neither boxes nor classes, are in the outcome and in a file beside the annotations.

    Raises UsageError, DatasetError and StorageError.
    """
    folder = Path(dataset)
    opened = open_dataset(folder, duplicates=True)
    with exclusive_lock(folder):
        outcome = run_import(opened, Path(labels), name, made_by)
        if (folder / CARD_FILE).exists():
            write_cards(folder)
    return outcome


def _write_what_follows(folder: Path) -> None:
    """What is computed from the shards once all of them stand."""
    write_duplicates(folder)
    write_cards(folder)


def _moment(name: str, text: str | None) -> LocalTime | None:
    if text is None:
        return None
    try:
        found = LocalTime.model_validate(parse_moment(text))
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    if found.now:
        raise UsageError(f"{name}: expected a date or a time, got now")
    return found


def _statuses_to_retry(names: Collection[str]) -> frozenset[Status]:
    wrong = set(names) - {Status.FAILED, Status.MISSING, Status.CORRUPT}
    if isinstance(names, str) or wrong:
        raise UsageError(f"retry: expected failed, missing or corrupt, got {', '.join(sorted(wrong)) or names}")
    return frozenset(map(Status, names))


def _with_concurrency(plan: Plan, concurrency: int) -> Plan:
    if not 1 <= concurrency <= 256:
        raise UsageError(f"concurrency: expected 1 to 256 requests in flight, got {concurrency}")
    limits = plan.source.limits.model_copy(update={"concurrency": concurrency})
    return plan.model_copy(update={"source": plan.source.model_copy(update={"limits": limits})})


@contextlib.contextmanager
def _opened(plan: Plan, url: str | None) -> Iterator[FrameSource]:
    limits = plan.source.limits
    source: FrameSource
    if isinstance(plan.source, RhombusSource):
        from rhombus_dataset.sources.rhombus import client

        auth = plan.source.auth
        address = plan.source.url
        if url is not None:
            try:
                address = check_url(url)
                check_encrypted(address, plan.source.allow_plain_http)
            except ValueError as error:
                raise UsageError(f"url: {error}") from None
        source = client.RhombusSource(
            address,
            read_api_key(),
            scheme=auth.scheme,
            org=auth.org,
            certificate=auth.certificate,
            certificate_key=auth.certificate_key,
            timeout_s=limits.timeout / 1000,
            connections=limits.concurrency,
        )
    else:
        if url is not None:
            raise UsageError("a url goes with a source of type rhombus; this plan reads recordings")
        try:
            from rhombus_dataset.sources.recordings.site import load_site
            from rhombus_dataset.sources.recordings.source import RecordingsSource
        except ModuleNotFoundError:
            raise MissingExtra("a source of type recordings", "server") from None
        source = RecordingsSource(load_site(plan.source.site))
    try:
        yield source
    finally:
        source.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
