"""The order of the passes of a build: the scout pass of a plan that has one, then the dataset itself."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Collection
from pathlib import Path

from rhombus_dataset.building.context import BuildContext
from rhombus_dataset.building.events import BuildEvents
from rhombus_dataset.building.frame_bytes import measure_frames
from rhombus_dataset.building.open_source import limiter_of, open_source
from rhombus_dataset.building.outcome import BuildOutcome
from rhombus_dataset.building.run import run_build
from rhombus_dataset.cards.readme import write_cards
from rhombus_dataset.errors import BuildError, RhombusDatasetError, UsageError
from rhombus_dataset.frame import Status
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.plan.model import Plan, RecordingsSource, ScoutSampling
from rhombus_dataset.planning.dry_run import DryRun, MeasuredFrames, estimate_build, estimate_scout_pass
from rhombus_dataset.planning.lock import Selection
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.resolve import resolve, resolve_splits, scout_inputs_sha256, scout_settings
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.quality.duplicates import write_duplicates
from rhombus_dataset.quality.leakage import same_bytes_across_splits
from rhombus_dataset.quality.reasons import commonest_reasons
from rhombus_dataset.scout.pass_plan import scout_pass, scout_pass_text
from rhombus_dataset.scout.picks import select_frames
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.files import folder_inside, free_bytes

_RETRIED = (Status.FAILED, Status.MISSING, Status.CORRUPT)


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """What a caller may change for one run. None of it changes the dataset of a complete build.

    ``url``: another address than the plan's. ``concurrency``: requests in flight, 1 to 256. ``retry``: statuses of
    the rows to request again. ``reuse``: an earlier dataset whose frames are taken without a request.
    """

    url: str | None = None
    concurrency: int | None = None
    retry: Collection[str] = ()
    reuse: Path | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for a value that is not allowed."""
        if self.concurrency is not None and not 1 <= self.concurrency <= 256:
            raise UsageError(f"concurrency: expected 1 to 256 requests in flight, got {self.concurrency}")
        wrong = [self.retry] if isinstance(self.retry, str) else sorted(set(self.retry) - set(map(str, _RETRIED)))
        if wrong:
            raise UsageError(f"retry: expected a list of failed, missing or corrupt, got {', '.join(wrong)}")


def build_dataset(
    plan_file: Path, out: Path, options: BuildOptions, stop: threading.Event, events: BuildEvents, now_ms: int
) -> BuildOutcome:
    """Build the dataset of a plan in the folder ``out``, or continue it. See ``api.build``.

    ``now_ms``: UTC epoch milliseconds. If the scout pass was stopped, its outcome is returned.
    """
    plan = _with_concurrency(load_plan(plan_file, now_ms=now_ms), options.concurrency)
    limits = plan.source.limits
    with open_source(plan, options.url) as source:
        # One rate limiter for all passes: the quota does not begin anew.
        rate_limiter = limiter_of(limits, stop)
        retry = frozenset(map(Status, options.retry))
        context = BuildContext(out, source, rate_limiter, limits, stop, events, retry, options.reuse)
        text = plan_file.read_bytes()
        if isinstance(plan.sampling, ScoutSampling) and _needs_scout_pass(out):
            return _scout_then_build(plan, text, context, now_ms)
        return _build_pass(plan, text, context, now_ms)


def planned_schedule(plan: Plan, now_ms: int) -> Schedule:
    """Return every frame that a build of ``plan`` would request. See ``api.schedule_of``."""
    return sample(resolve(plan, now_ms))


def dry_run_plan(plan: Plan, out: Path, now_ms: int, probe: bool, url: str | None) -> DryRun:
    """Return what a build of ``plan`` into ``out`` would cost. See ``api.dry_run``."""
    free = free_bytes(out)

    def measured(schedule: Schedule, small: tuple[Geometry, ...] = ()) -> MeasuredFrames | None:
        if probe:
            return measure_frames(plan, schedule, (*small, *plan.views.values()), url)
        if isinstance(plan.source, RecordingsSource):
            # Recordings cost no quota. What is wrong with them is said by a build.
            with contextlib.suppress(RhombusDatasetError):
                return measure_frames(plan, schedule, (*small, *plan.views.values()), None)
        return None

    if not (out / layout.LOCK_FILE).exists():
        if isinstance(plan.sampling, ScoutSampling):
            schedule = planned_schedule(scout_pass(plan), now_ms)
            small = Geometry(plan.sampling.downscale)
            return estimate_scout_pass(plan, schedule, free, measured(schedule, (small,)))
        schedule = planned_schedule(plan, now_ms)
    else:
        old = load_lock(out)
        schedule = sample(resolve(plan, old.now_ms or now_ms, old.selection, old.sampling_version))
    limits = plan.source.limits
    return estimate_build(schedule, plan.name, limits.requests_per_second, limits.burst, free, measured(schedule))


def write_derived_files(dataset: Path) -> None:
    """Write the files that are computed from the shards of a complete dataset: near-duplicates and cards."""
    write_duplicates(dataset)
    write_cards(dataset)


def scout_folder_of(dataset: Path) -> Path | None:
    """Return the folder of a dataset's scout pass, or None if it has none. Raises DatasetError for a link out."""
    folder = folder_inside(dataset, layout.SCOUT_FOLDER)
    return folder if (folder / layout.LOCK_FILE).exists() else None


def _needs_scout_pass(out: Path) -> bool:
    """Return whether frames are still to be chosen. Where they are, a scout pass that was kept is completed too."""
    return not (out / layout.LOCK_FILE).exists() or scout_folder_of(out) is not None


def _scout_then_build(plan: Plan, text: bytes, context: BuildContext, now_ms: int) -> BuildOutcome:
    out = context.out
    is_chosen = (out / layout.LOCK_FILE).exists()
    if not is_chosen:
        context.events.on_note("first a scout pass of small frames, then full frames of what is new in them")
    pass_context = dataclasses.replace(
        context,
        out=out / layout.SCOUT_FOLDER,
        retry=frozenset(),
        reuse=None if context.reuse is None else scout_folder_of(context.reuse),
    )
    scouted = _build_pass(scout_pass(plan), scout_pass_text(plan, text), pass_context, now_ms)
    if not scouted.complete:
        return dataclasses.replace(scouted, out=out)
    # `end: now` means the same as in the pass.
    now_ms = load_lock(pass_context.out).now_ms or now_ms
    selection = None
    if not is_chosen:
        selection = _select(plan, pass_context.out, now_ms)
        context.events.on_note(_selection_text(selection))
    outcome = _build_pass(plan, text, context, now_ms, selection)
    return dataclasses.replace(
        outcome, requests=outcome.requests + scouted.requests, seconds=outcome.seconds + scouted.seconds
    )


def _build_pass(
    plan: Plan, text: bytes, context: BuildContext, now_ms: int, selection: Selection | None = None
) -> BuildOutcome:
    out = context.out
    try:
        outcome = run_build(plan, text, context, now_ms, selection)
    except BuildError:
        # The card shows what was committed before. The error that stopped the build is reported in any case.
        with contextlib.suppress(RhombusDatasetError):
            if (out / layout.CARD_FILE).exists():
                write_cards(out)
        raise
    if outcome.complete:
        write_derived_files(out)
        rows = manifest.read_manifest(out, ["status", "reason", "split", "sha256"])
        outcome = dataclasses.replace(
            outcome, reasons=commonest_reasons(rows), same_bytes=same_bytes_across_splits(rows)
        )
    elif outcome.all_committed:
        # A retry was stopped: its user should not wait for the comparison of all images.
        write_cards(out)
    return outcome


def _select(plan: Plan, pass_folder: Path, now_ms: int) -> Selection:
    """Return the frames that a plan chooses from its complete scout pass."""
    inputs_sha256 = scout_inputs_sha256(plan, now_ms)
    return select_frames(pass_folder, scout_settings(plan), plan.seed, resolve_splits(plan), inputs_sha256)


def _selection_text(selection: Selection) -> str:
    result = selection.result
    return (
        f"scout pass: {result.new:,} of {result.pass_ok:,} small frames show something new, in "
        f"{result.events:,} events; {result.chosen:,} moments were chosen, of {result.covered:,} events"
    )


def _with_concurrency(plan: Plan, concurrency: int | None) -> Plan:
    if concurrency is None:
        return plan
    limits = plan.source.limits.model_copy(update={"concurrency": concurrency})
    return plan.model_copy(update={"source": plan.source.model_copy(update={"limits": limits})})
