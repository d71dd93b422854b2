"""Opens, checks, repairs, reports, exports and erases damaged datasets, and watches what the process does.

A program of its own: the audit hook stays for the life of a process. Arguments: the folder of whole datasets, a
folder to work in, and the first and the last case. Prints a JSON object with the number of commands by outcome.
Fails on a path outside the dataset and the export, on a started program, on executed code, on an exception that is
not of the package, and on a command that takes more than a second of processor time or 500 MB.
"""

from __future__ import annotations

import collections
import ctypes
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rhombus_dataset
from rhombus_dataset.errors import RhombusDatasetError
from rhombus_dataset.exports.formats import FORMATS
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.store import layout
from tests.hostile.damage import ACCIDENTS, accident, damage
from tests.zygote import import_all

MAX_CPU_S = 3.0
MAX_MEMORY_KB = 500_000
MAX_WALL_S = 60
STARTED = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.", "ctypes.", "socket.")
CODE = ("exec", "compile", "marshal.", "pickle.")
PATHS = (
    "open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink",
    "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.",
)  # fmt: skip
READ_ONLY_ROOTS = tuple(
    {os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, Path(__file__).parents[2] / "rhombus_dataset")}
    | {
        "/usr/share/zoneinfo",
        "/proc/self",
        "/proc/meminfo",
        "/proc/cpuinfo",
        "/sys/devices",
        "/dev/urandom",
        "/dev/null",
    }
)

violations: list[str] = []
root = ""


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not root:
        return
    if event.startswith(STARTED) or (
        event.startswith(CODE) and threading.current_thread() is threading.main_thread()
    ):
        violations.append(f"{event} {arguments!r:.200}")
    elif event.startswith(PATHS):
        flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
        reads = event in ("open", "os.listdir", "os.scandir")
        changes = not reads or bool(flags & (os.O_ACCMODE | os.O_CREAT))
        count = 2 if event in ("os.rename", "os.link", "shutil.move") else 1
        for path in arguments[:count]:
            check_path(event, path, changes, follows=reads and not flags & os.O_NOFOLLOW)


def check_path(event: str, path: Any, changes: bool, follows: bool) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return  # a descriptor
    text = os.fsdecode(path)
    if "/" not in text and text not in ("..", "."):
        return  # relative to a descriptor, while a folder is removed
    # A link is itself changed, removed or renamed. What is opened is its target, if links are followed.
    parent, name = os.path.split(text)
    real = os.path.realpath(text) if follows else f"{os.path.realpath(parent)}/{name}"
    if f"{real}/".startswith(f"{root}/") or (not changes and real.startswith(READ_ONLY_ROOTS)):
        return
    violations.append(f"{event} {real}")


def watch_folder(folder: Path) -> Callable[[], bytes]:
    """Return a function that returns the events of the kernel for files of a folder, opened by any library."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    in_access, in_modify, in_open, in_create, in_delete = 0x1, 0x2, 0x20, 0x100, 0x200
    mask = in_access | in_modify | in_open | in_create | in_delete
    assert libc.inotify_add_watch(descriptor, os.fsencode(folder), mask) > 0

    def events() -> bytes:
        try:
            return os.read(descriptor, 4096)
        except BlockingIOError:
            return b""

    return events


def memory_kb(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1))


def read(dataset: Path) -> None:
    opened = rhombus_dataset.open_dataset(dataset)
    len(opened), opened.splits, opened.annotations(), opened.to_pandas(), repr(opened)
    first: RhombusDatasetError | None = None
    for frame in opened[:100]:
        try:
            frame.decode()
            frame.local_time, frame.annotations, frame._repr_html_()
        except RhombusDatasetError as error:
            first = error
    if first is not None:
        raise first


def commands(rng: random.Random, out: Path) -> dict[str, Callable[[Path], Any]]:
    """Return the commands of a case: reading, and one more."""
    to = rng.choice(list(FORMATS))
    more: list[tuple[str, Callable[[Path], Any]]] = [
        ("info", lambda d: str(rhombus_dataset.info(d))),
        ("verify", rhombus_dataset.verify),
        ("verify", rhombus_dataset.verify),
        ("report", rhombus_dataset.report),
        ("report", rhombus_dataset.report),
        ("export", lambda d: rhombus_dataset.export(d, to, out)),
        ("export", lambda d: rhombus_dataset.export(d, to, out)),
        ("repair", repair),
        ("repair", repair),
        ("erase", lambda d: rhombus_dataset.erase(d, rng.choice(["camera-A", "dock-north", "camera-B"]))),
        ("duplicates", lambda d: rhombus_dataset.open_dataset(d, duplicates=True)),
    ]
    return {"read": read, **dict([rng.choice(more)])}


def same_lock(dataset: Path, whole: Path) -> bool:
    """Return whether the lock has other bytes, but the same content."""
    path = dataset / layout.LOCK_FILE
    if path.read_bytes() == (whole / layout.LOCK_FILE).read_bytes():
        return False
    try:
        return load_lock(dataset) == load_lock(whole)
    except RhombusDatasetError:
        return False


def repair(dataset: Path) -> Any:
    """Repair, and check that what is damaged still belongs to no shard."""
    report = rhombus_dataset.verify(dataset, repair=True)
    if report.repaired:
        assert all(problem.shard is None for problem in rhombus_dataset.verify(dataset).problems)
    return report


def run_case(
    case: int, wholes: list[Path], work: Path, outside: Path, found: collections.Counter[str]
) -> list[str]:
    """Run a case. Return what went wrong."""
    global root
    rng = random.Random(case)
    folder = work / f"case-{case}"
    dataset = folder / "dataset"
    folder.mkdir()
    whole = rng.choice(wholes)
    shutil.copytree(whole, dataset, symlinks=True)
    wrong = []
    if rng.random() < ACCIDENTS:
        # A part of the lock's JSON has no meaning: spaces, and digits that do not change a number.
        kinds = ["accident"] if accident(dataset, rng) and not same_lock(dataset, whole) else ["none"]
        chosen: dict[str, Callable[[Path], Any]] = {"verify": rhombus_dataset.verify}
        if rng.random() < 0.5:
            chosen = {"repair": repair}
    else:
        kinds = damage(dataset, rng, outside)
        chosen = commands(rng, folder / "out")
    events()
    for name, command in chosen.items():
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the memory starts anew
        before_kb, began_s = memory_kb("VmRSS"), time.process_time()
        violations.clear()
        root = str(folder)
        try:
            result = command(dataset)
            outcome = "problems" if getattr(result, "problems", ()) else "ok"
        except RhombusDatasetError as error:
            outcome = "refused"
            if not re.sub(r"[\n\t]", "", str(error)).isprintable():
                wrong.append(f"{name}: control characters: {error!s:.200}")
        except BaseException:
            root, outcome = "", "exception"
            wrong.append(f"{name}: {traceback.format_exc()[-1500:]}")
        root = ""
        if outcome == "ok" and kinds == ["accident"]:
            wrong.append(f"{name}: nothing was found")
        found[f"{name} {outcome}"] += 1
        taken_s, taken_kb = time.process_time() - began_s, memory_kb("VmHWM") - before_kb
        if taken_s > MAX_CPU_S:
            wrong.append(f"{name}: {taken_s:.2f} s")
        if taken_kb > MAX_MEMORY_KB:
            wrong.append(f"{name}: {taken_kb // 1000} MB")
        wrong += [f"{name}: {violation}" for violation in violations]
        if events():
            wrong.append(f"{name}: a file outside the dataset was opened")
        slowest[name] = max(slowest.get(name, (0.0, 0)), (round(taken_s, 2), case))
        largest[name] = max(largest.get(name, (0, 0)), (taken_kb // 1000, case))
    shutil.rmtree(folder)
    return [f"case {case} ({whole.name}; {', '.join(kinds)}): {text}" for text in wrong]


slowest: dict[str, tuple[float, int]] = {}
largest: dict[str, tuple[int, int]] = {}
events: Callable[[], bytes] = bytes


def main() -> None:
    global events
    wholes = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir())
    work, first, last = Path(os.path.realpath(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])
    outside = work / "outside"
    outside.mkdir()
    data = sorted((wholes[0] / "data").glob("*.parquet"))[0]
    shutil.copy(data, outside / "secret.parquet")
    (outside / "secret.jpg").write_bytes(b"secret")
    # What is imported and opened late is imported and opened now.
    import_all()
    importlib.import_module("tzdata.zoneinfo")
    for whole in wholes:
        warm = work / "warm"
        shutil.copytree(whole, warm)
        for n, to in enumerate(FORMATS):
            rhombus_dataset.export(warm, to, work / f"warm-{n}")
            shutil.rmtree(work / f"warm-{n}")
        read(warm)
        rhombus_dataset.report(warm)
        rhombus_dataset.verify(warm, repair=True)
        rhombus_dataset.open_dataset(warm, duplicates=True)
        str(rhombus_dataset.info(warm))
        rhombus_dataset.erase(warm, rhombus_dataset.open_dataset(warm)[0].camera_name)
        shutil.rmtree(warm)
    events = watch_folder(outside)
    sys.addaudithook(watch)
    signal.signal(signal.SIGALRM, lambda *_: os.abort())
    import faulthandler

    faulthandler.enable()
    found: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    for case in range(first, last):
        signal.alarm(MAX_WALL_S)
        result = run_case(case, wholes, work, outside, found)
        if result and all(text.endswith(" s") for text in result):
            # Beside other processes, a core is slower for a while. A command that is slow is slow again.
            result = run_case(case, wholes, work, outside, found)
        wrong += result
        if len(wrong) > 40:
            break
    signal.alarm(0)
    assert sorted(p.name for p in outside.iterdir()) == ["secret.jpg", "secret.parquet"]
    assert sorted(p.name for p in work.iterdir()) == ["outside"], list(work.iterdir())
    print(json.dumps({"outcomes": found, "slowest_s": slowest, "largest_mb": largest}))
    if wrong:
        print("\n\n".join(wrong), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
