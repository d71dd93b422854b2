"""Every change of a dataset's files: temporary file, fsync, rename, fsync of the folder.

A file under its final name is always complete. Errors of the file system become StorageError. Only the journal
writes without a temporary file: it has records of its own that can be recovered.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, TextIO

from rhombus_dataset.errors import BuildError, DatasetError, StorageError
from rhombus_dataset.store import layout

TEMPORARY_SUFFIX: Final = ".tmp"
_RANDOM_BYTES: Final = 8
MAX_SMALL_FILE_BYTES: Final = 64 << 20
"""Most bytes of a file that is read whole. A record of a million missing frames takes 18 MB."""


@contextlib.contextmanager
def as_storage_error(path: Path) -> Iterator[None]:
    """Raise StorageError, with advice, for every OSError of the block. ``path`` is named in the message."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the StorageError for an error of the file system, with advice."""
    advice = {
        errno.ENOSPC: "the disk is full: free some space",
        errno.EDQUOT: "the disk quota is used up: free some space",
        errno.EROFS: "the file system is read-only: choose another folder, or remount it",
        errno.EACCES: "permission denied: choose another folder, or change its owner",
        errno.EPERM: "permission denied: choose another folder, or change its owner",
        errno.EIO: "the disk reports an error: check it",
        errno.ENOENT: "the folder no longer exists: check that the disk is still mounted",
        errno.EEXIST: "a part of the path is a file, not a folder: choose another folder",
        errno.ENOTDIR: "a part of the path is a file, not a folder: choose another folder",
    }.get(error.errno or 0, error.strerror or str(error))
    return StorageError(f"{path}: {advice}. Everything built so far is kept; run the same build again to continue.")


def inside(dataset: Path, name: str) -> Path:
    """Return the path of a file of a dataset that somebody else may have made. ``name`` is relative to its folder.

    Raises DatasetError where the path leads out of the folder, by its parts or by a symbolic link, and where it is
    not a regular file: a pipe would wait for ever. A file that does not exist is allowed.
    """
    path, mode = _below(dataset, name)
    if mode is not None and not stat.S_ISREG(mode):
        raise DatasetError(f"{path}: not a regular file")
    return path


def folder_inside(dataset: Path, name: str) -> Path:
    """Return the path of a folder of a dataset. Raises DatasetError as :func:`inside`; it need not exist."""
    path, mode = _below(dataset, name)
    if mode is not None and not stat.S_ISDIR(mode):
        raise DatasetError(f"{path}: not a folder")
    return path


def _below(dataset: Path, name: str) -> tuple[Path, int | None]:
    """Return the path of ``name`` below ``dataset``, and the mode of what is there. None if nothing is there."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
        raise DatasetError(f"{dataset}: the dataset names a file outside its folder ({name!r:.100})")
    path, mode = dataset, None
    try:
        for part in parts:
            path = path / part
            mode = os.lstat(path).st_mode
            # The folder itself may be reached by a link. A link below it must not leave it.
            if stat.S_ISLNK(mode):
                if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(dataset)):
                    raise DatasetError(f"{path}: a link that leads out of the dataset")
                mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return dataset / name, None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    return path, mode


def open_regular(path: Path, flags: int) -> int:
    """Return a descriptor of a regular file. No link is followed. Raises OSError, also for a pipe or a device."""
    # Without O_NONBLOCK, opening a pipe would wait for its other end.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def read_small_file(dataset: Path, name: str) -> bytes:
    """Return the content of a small file of a dataset: its plan, its lock, a record.

    Raises FileNotFoundError if it does not exist, and DatasetError as :func:`inside` or if it is too large.
    """
    path = inside(dataset, name)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SMALL_FILE_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_SMALL_FILE_BYTES:
        raise DatasetError(f"{path}: larger than {MAX_SMALL_FILE_BYTES >> 20} MiB, the most that such a file has")
    return content


def _temporary(path: Path) -> Path:
    """Return a temporary path beside ``path``. Its name can't be guessed: nobody can plant a link under it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM_BYTES)}{TEMPORARY_SUFFIX}")


def remove_temporary_files(folder: Path) -> None:
    """Remove the files and folders anywhere below ``folder`` that a killed process had not finished writing."""
    with as_storage_error(folder):
        for path in sorted(folder.rglob(f".*{TEMPORARY_SUFFIX}")):
            remove(path)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes had not finished writing under the final name ``path``."""
    random = "[0-9a-f]" * 2 * _RANDOM_BYTES  # a `*` would also match what belongs to a longer name, with a dot
    for leftover in sorted(path.parent.glob(f".{glob.escape(path.name)}.{random}{TEMPORARY_SUFFIX}")):
        remove(leftover)


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder. After the block, its file is moved to ``path``.

    If the block raises, ``path`` is not changed and the temporary file is removed. Raises StorageError.
    """
    staged = _temporary(path)
    with as_storage_error(path):
        _make_folder(path.parent)
        os.close(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        try:
            yield staged
            sync(staged)
            os.replace(staged, path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        sync(path.parent)


def _make_folder(path: Path) -> None:
    # Without its parents: if a disk was unmounted, they would start a new dataset in the empty mount point.
    path.mkdir(exist_ok=True)
    if path.name in layout.FOLDERS and path.is_symlink():
        try:
            folder_inside(path.parent, path.name)
        except DatasetError as error:
            raise StorageError(f"{error}: nothing is written there") from None


def write_file(path: Path, content: bytes) -> None:
    """Write a small file, complete or not at all. Raises StorageError."""
    with staged_file(path) as staged:
        staged.write_bytes(content)


@contextlib.contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder. After the block, it replaces the file tree at ``path``.

    If the block raises, ``path`` is not changed and the temporary folder is removed. Raises StorageError.
    """
    staged = _temporary(path)
    with as_storage_error(path):
        _make_folder(path.parent)
        staged.mkdir()
        try:
            yield staged
            for file in staged.rglob("*"):
                sync(file)
            sync(staged)
            if path.is_dir():
                remove(path)
            os.replace(staged, path)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        sync(path.parent)


def make_folders(path: Path) -> None:
    """Create a folder and its parents, where they do not exist. Raises StorageError."""
    with as_storage_error(path):
        path.mkdir(parents=True, exist_ok=True)


def move(path: Path, target: Path) -> None:
    """Move a complete file or folder over ``target``. Safe to repeat after an interruption. Raises StorageError."""
    with as_storage_error(target):
        _make_folder(target.parent)
        if target.is_dir():
            remove(target)
        os.replace(path, target)
        sync(target.parent)
        sync(path.parent)


def open_log(path: Path) -> TextIO:
    """Open a text file to append lines to, each written at once. Creates its folders. Raises StorageError."""
    with as_storage_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file or folder, if it exists. Raises StorageError."""
    with as_storage_error(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk that ``path`` is on. ``path`` need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def exclusive_lock(out: Path) -> Iterator[None]:
    """Lock the dataset in ``out`` against every other process that changes it.

    Raises BuildError if another process holds the lock, StorageError if no folder can be created, and DatasetError
    if one of its folders is a link that leads out of it. The kernel releases the lock when this process ends, also
    when it is killed.
    """
    path = out / layout.BUILD_LOCK_FILE
    for folder in layout.FOLDERS:
        folder_inside(out, folder)
    with as_storage_error(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:
            parent = next(folder for folder in out.absolute().parents if folder.exists())
            raise StorageError(f"{out}: no folder can be created in {parent}: choose another folder") from None
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(
                f"{out}: another process is changing this dataset. Wait until it ends, or stop it."
            ) from None
        yield
    finally:
        os.close(descriptor)
