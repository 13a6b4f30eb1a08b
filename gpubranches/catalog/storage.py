"""Files that appear whole or not at all, their checksums, the lock of the one writer and the leases of readers."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpubranches.errors import CatalogFormatError, DataError

_CHUNK_BYTES = 1 << 22
_log = logging.getLogger(__name__)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()


def record(path: Path) -> dict[str, Any]:
    """Sync a finished file to disk and return its entry in the manifest: {bytes, sha256}."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": checksum(path)}


def require_file(path: Path, entry: dict[str, Any]) -> None:
    """Raise CatalogFormatError unless the file is there with the size its entry names."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CatalogFormatError(f"{path}: missing; restore it from a copy, or ingest again") from error
    if size != entry["bytes"]:
        raise CatalogFormatError(
            f"{path}: expected {entry['bytes']:,} bytes, got {size:,}; restore it from a copy, or ingest again"
        )


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def unreadable(path: Path, error: OSError) -> CatalogFormatError:
    """Return the error that tells why a file of a catalog cannot be opened."""
    advice = "restore it from a copy, or ingest again"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "allow more open files (ulimit -n), eight for each segment, or compact the catalog"
    return CatalogFormatError(f"{path}: cannot be opened ({error.strerror}); {advice}")


class Lease:
    """A reader's hold on a file or folder: as long as it lives, `remove_unheld` leaves what it holds alone.

    Raises CatalogFormatError if it is not there, or is being removed. Where a file system has no locks it is no hold.
    """

    def __init__(self, path: Path):
        try:
            handle = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise unreadable(path, error) from error


def remove_unheld(path: Path) -> None:
    """Remove a file or folder, if it is there and no `Lease` holds it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        _log.info("%s: left to the next writer, since a reader has it open", path)
    finally:
        os.close(handle)


def require_space(folder: Path, size_bytes: float, what: str) -> None:
    """Raise DataError unless the disk of a folder has so many bytes free for what is to be written."""
    with disk_errors(folder):
        free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise DataError(
            f"{folder}: expected {int(size_bytes):,} bytes of free space for {what}, got {free:,}; free some"
        )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the catalog's write lock. Raises DataError at once if another process or object holds it."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DataError(f"{folder}: cannot write: {error.strerror}; check the folder's permissions") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{folder}: another process is writing this catalog; wait for it and try again") from error
        yield
    finally:
        os.close(handle)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into DataError; what was committed stays."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise DataError(
            f"{place}: cannot write: {error.strerror or error}; check space and permissions, what was committed is kept"
        ) from error
