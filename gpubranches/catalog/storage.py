"""The files of a catalog: checks of their content, the lock of the one writer and the leases of readers."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gpubranches.core.files import Output, checksum, open_regular, output, read_regular
from gpubranches.errors import CatalogFormatError, DataError

RESTORE = "restore it from a copy, or ingest again"
_CHUNK_BYTES = 1 << 22
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_log = logging.getLogger(__name__)


def require_file(path: Path, entry: dict[str, Any]) -> None:
    """Raise CatalogFormatError unless the file is there with the size its entry names."""
    try:
        found = path.stat()
    except OSError as error:
        raise CatalogFormatError(f"{path}: missing ({error.strerror}); {RESTORE}") from error
    if not stat.S_ISREG(found.st_mode):
        raise CatalogFormatError(f"{path}: expected a file, got a folder, a pipe or a device; {RESTORE}")
    if found.st_size != entry["bytes"]:
        raise CatalogFormatError(f"{path}: expected {entry['bytes']:,} bytes, got {found.st_size:,}; {RESTORE}")


def require_content(path: Path, entry: dict[str, Any], sha256: str | None = None) -> None:
    """Raise CatalogFormatError unless a file matches its entry. sha256: of its content, None to compute it."""
    require_file(path, entry)
    try:
        sha256 = checksum(path) if sha256 is None else sha256
    except OSError as error:
        raise unreadable(path, error) from error
    if sha256 != entry["sha256"]:
        raise CatalogFormatError(f"{path}: its content is damaged (SHA-256 differs); {RESTORE}")


def read_content(path: Path, entry: dict[str, Any]) -> bytes:
    """Return the content of a file. Raises CatalogFormatError unless it matches its entry."""
    require_file(path, entry)
    try:
        content = read_regular(path)
    except OSError as error:
        raise unreadable(path, error) from error
    require_content(path, entry, hashlib.sha256(content).hexdigest())
    return content


def copy_file(source: Path, entry: dict[str, Any], target: Path) -> Output:
    """Copy a file; return the copy, closed. Raises CatalogFormatError unless it matches its entry in a manifest."""
    with open(open_regular(source), "rb") as old, output(target) as file:
        while chunk := old.read(_CHUNK_BYTES):
            file.write(chunk)
    require_content(source, entry, file.entry["sha256"])
    return file


def link_file(source: Path, entry: dict[str, Any], target: Path) -> bool:
    """Make a hard link to an immutable file; return False, and do nothing, if the file systems allow no link.

    Raises CatalogFormatError unless the file has the size of its entry in a manifest.
    """
    require_file(source, entry)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def unreadable(path: Path, error: OSError) -> CatalogFormatError:
    """Return the error for a file of a catalog that cannot be opened, with the reason."""
    advice = RESTORE
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "allow more open files (ulimit -n), eight for each segment, or compact the catalog"
    return CatalogFormatError(f"{path}: cannot be opened ({error.strerror}); {advice}")


class Lease:
    """A shared lock on a file or folder. As long as the object exists, `remove_unheld` does not remove it.

    Raises CatalogFormatError if it is missing or is being removed. On a file system without locks it protects nothing.
    """

    def __init__(self, path: Path):
        try:
            handle = open_regular(path)
            weakref.finalize(self, os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise unreadable(path, error) from error


def remove_unheld(path: Path) -> None:
    """Remove a file or folder if it exists and has no `Lease`; if this fails, it stays."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        _log.info("%s: the next writer will remove it, because a reader has it open", path)
    except OSError as error:
        _log.info("%s: left to the next writer: %s", path, error)
    finally:
        os.close(handle)


def require_space(folder: Path, size_bytes: float, what: str) -> None:
    """Raise DataError unless the disk of a folder has enough free bytes for the data to be written."""
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
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be locked for writing: {error.strerror}; put it on a file system with locks"
            ) from error
        yield
    finally:
        with suppress(OSError):  # nothing was written through this handle
            os.close(handle)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn errors of a full disk or a read-only folder into DataError; committed files stay.

    An OSError without errno comes from a reader, such as Arrow for a damaged file, and not from the system.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        if error.errno is None:
            raise DataError(f"{place}: cannot be read: {error}; {RESTORE}") from error
        raise DataError(
            f"{place}: cannot write: {error.strerror or error}; check space and permissions, what was committed is kept"
        ) from error
