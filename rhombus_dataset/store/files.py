"""Files that are whole or not there: temporary file, fsync, rename, fsync of the folder.

The only module that changes the file system, apart from the journal; a failing disk comes out of both
as one StorageError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rhombus_dataset.errors import BuildError, StorageError
from rhombus_dataset.store import layout


@contextlib.contextmanager
def as_storage_error(path: Path) -> Iterator[None]:
    """Turns what the file system raises into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    advice = {
        errno.ENOSPC: "the disk is full: free some space",
        errno.EDQUOT: "the disk quota is used up: free some space",
        errno.EROFS: "the file system is read-only: choose another folder, or remount it",
        errno.EACCES: "permission denied: choose another folder, or change its owner",
        errno.EPERM: "permission denied: choose another folder, or change its owner",
        errno.EIO: "the disk reports an error: check it",
        errno.ENOENT: "the folder has vanished: is the disk still mounted?",
        errno.EEXIST: "a part of the path is a file, not a folder: choose another folder",
        errno.ENOTDIR: "a part of the path is a file, not a folder: choose another folder",
    }.get(error.errno or 0, error.strerror or str(error))
    return StorageError(f"{path}: {advice}. What has been built is kept; run the same build again to go on.")


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; what is written there appears under ``path``, whole.

    If the body raises, ``path`` stays as it was and the temporary file is removed.
    """
    staged = path.with_name(f".{path.name}.tmp")
    with as_storage_error(path):
        _make_folder(path.parent)
        try:
            yield staged
            sync(staged)
            os.replace(staged, path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        sync(path.parent)


def _make_folder(path: Path) -> None:
    # Not its parents: where a disk was unmounted, the dataset would be begun anew in the empty mount point.
    path.mkdir(exist_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    with staged_file(path) as staged:
        staged.write_bytes(content)


@contextlib.contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """As :func:`staged_file`, for a folder of files. An old folder at ``path`` is replaced."""
    staged = path.with_name(f".{path.name}.tmp")
    with as_storage_error(path):
        shutil.rmtree(staged, ignore_errors=True)
        _make_folder(path.parent)
        staged.mkdir()
        try:
            yield staged
            for file in staged.rglob("*"):
                sync(file)
            sync(staged)
            if path.exists():
                shutil.rmtree(path)
            os.replace(staged, path)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        sync(path.parent)


def make_folders(path: Path) -> None:
    """Make a folder with all that it stands in."""
    with as_storage_error(path):
        path.mkdir(parents=True, exist_ok=True)


def move(path: Path, target: Path) -> None:
    """Put a whole file or folder in the place of another. Cut short, it can be called again."""
    with as_storage_error(target):
        _make_folder(target.parent)
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
        sync(target.parent)
        sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    with as_storage_error(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Bytes free to us on the disk that holds ``path``, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def exclusive_lock(out: Path) -> Iterator[None]:
    """Nobody else changes the dataset meanwhile. Raises BuildError if somebody is at it.

    The kernel lets go of the lock when its process ends, however it ends.
    """
    path = out / layout.BUILD_LOCK_FILE
    with as_storage_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(
                f"{out}: another build is at work in this folder. Wait until it ends, or stop it."
            ) from None
        yield
    finally:
        os.close(descriptor)
