"""Files and folders that appear complete or not at all, written by checked calls; paths as text."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import io
import json
import os
import re
import shutil
import stat
import threading
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpubranches.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES = 1 << 14
"""Bytes of a block with a checksum of its own."""
_CHUNK_BYTES = 1 << 22
_LARGE_BYTES = 1 << 20
"""If data have at least this size, a separate thread computes their SHA-256."""


class Output(io.RawIOBase):
    """A file that `output` writes: `write` writes all of its data, or raises OSError with the name of the file.

    It is unbuffered and records size and SHA-256 of its data; sums: the CRC-32 of each block of BLOCK_BYTES, the last
    one shorter.
    """

    def __init__(self, path: Path, handle: int):
        self.path = path
        self.size = 0
        self.sums: list[int] = []
        self._handle = handle
        self._sha = hashlib.sha256()

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.size

    def write(self, data: Any) -> int:
        """Write bytes or an array in C order; return the number of bytes."""
        view = memoryview(data)
        if not view.nbytes:
            return 0
        view = view.cast("B")
        with self._hashing(view):
            self._sum(view)
            left = view
            with _naming(self.path):
                while len(left):
                    left = left[os.write(self._handle, left) :]
        self.size += len(view)
        return len(view)

    @contextmanager
    def _hashing(self, view: memoryview) -> Iterator[None]:
        """Add data to the SHA-256, which takes most of the time; for large data a thread does it during the block."""
        if len(view) < _LARGE_BYTES:
            self._sha.update(view)
            yield
            return
        hashing = threading.Thread(target=self._sha.update, args=(view,), name="gpubranches-sha256")
        hashing.start()
        try:
            yield
        finally:
            hashing.join()

    def _sum(self, view: memoryview) -> None:
        start = 0
        while start < len(view):
            filled = (self.size + start) % BLOCK_BYTES
            part = view[start : start + BLOCK_BYTES - filled]
            if filled:
                self.sums[-1] = zlib.crc32(part, self.sums[-1])
            else:
                self.sums.append(zlib.crc32(part))
            start += len(part)

    def sync(self) -> None:
        """Sync the file to the disk. Raises OSError."""
        with _naming(self.path):
            os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            with _naming(self.path):
                os.close(self._handle)

    @property
    def entry(self) -> dict[str, Any]:
        """What a manifest records about the file: {bytes, sha256}."""
        return {"bytes": self.size, "sha256": self._sha.hexdigest()}


@contextmanager
def output(path: Path) -> Iterator[Output]:
    """Write a file. At the end of the block it is synced and read back; OSError is raised if either fails.

    NumPy's `tofile` and `save` do not report an error of writing the last buffer; this function does.
    """
    file = Output(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))
    try:
        yield file
        file.sync()
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    file.close()
    size, sha256 = path.stat().st_size, checksum(path)
    if {"bytes": size, "sha256": sha256} != file.entry:
        raise OSError(errno.EIO, f"{file.size:,} bytes were written, but {size:,} others were read back", str(path))


def write_npy(file: Output, array: NDArray[Any]) -> None:
    """Write an array in NumPy's own format, without pickle."""
    header = np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(array))
    np.lib.format.write_array_header_1_0(file, header)
    file.write(np.ascontiguousarray(array))


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()


def read_regular(path: Path) -> bytes:
    """Return the content of a file. Raises OSError, immediately if it is not a regular file, such as a pipe."""
    handle = open_regular(path)
    with open(handle, "rb") as file:
        return file.read()


def parse_json(content: bytes | str) -> Any:
    """Return the value of a JSON text. Raises ValueError if it is not JSON, not UTF-8 or nested too deeply."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_text(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8; lone surrogates, which JSON can contain, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def open_regular(path: Path) -> int:
    """Open a file for reading and return its descriptor. Raises OSError, at once for a pipe, a socket or a device."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    kind = os.fstat(handle).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return handle


def sync_folder(path: Path) -> None:
    """Sync a folder, so that created, renamed and removed names are durable. Raises OSError with its name."""
    with _naming(path):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, with their names synced to the disk; an existing one stays.

    Raises OSError.
    """
    missing, above = [Path(os.path.abspath(path))], Path(os.path.abspath(path)).parent
    while not above.exists():
        missing.append(above)
        above = above.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def replace_file(path: Path, content: bytes) -> dict[str, Any]:
    """Write a file atomically, so that a reader sees the old or the new content; return {bytes, sha256}.

    Raises OSError.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with output(partial) as file:
            file.write(content)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return file.entry


def new_file(path: Path, content: bytes) -> None:
    """Write a file unless it exists, so that it appears complete; a file that another process made meanwhile stays.

    Raises OSError.
    """
    _clear_beside(path)
    while not os.path.lexists(path):
        partial = _beside(path)
        try:
            with _held(os.open(partial, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o666)), output(partial) as file:
                file.write(content)
            with suppress(
                FileExistsError, FileNotFoundError
            ):  # another process made the file, or removed this partial file
                _link(partial, path)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        sync_folder(partial.parent)


@contextmanager
def atomic_file(path: Path) -> Iterator[Output]:
    """Write a file that replaces an older one when the block ends, and is removed if the block fails.

    Raises DataError if it cannot be written.
    """
    partial = _beside(path)
    try:
        _clear_beside(path)
        with _held(os.open(partial, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o666)):
            with output(partial) as file:
                yield file
            partial.replace(path)
        sync_folder(partial.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that gets its name when the block ends, and is removed if the block fails.

    Raises UsageError unless the path is free or an empty folder, DataError if it cannot be written.
    """
    partial = _beside(path)
    try:
        if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
            raise UsageError(f"{path}: expected an empty or new folder; choose another")
        make_folder(partial.parent)
        _clear_beside(path)
        partial.mkdir()
        with _held(os.open(partial, os.O_RDONLY | os.O_DIRECTORY)):
            yield partial
            for folder, _, _ in os.walk(partial):
                sync_folder(Path(folder))
            partial.replace(path)
        sync_folder(partial.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def escaped_path(path: str) -> str:
    r"""Return a path as text that can be stored and shown: each byte that is not UTF-8 is written \xNN.

    A backslash before such letters in the name itself is written \x5c, so that no two paths have the same text.
    """
    named = re.sub(r"\\(?=x[0-9a-f]{2})", r"\\x5c", path)
    return re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", named)


def unescaped_path(text: str) -> str:
    """Return the path whose text `escaped_path` returned, for calls of the operating system."""

    def byte(found: re.Match[str]) -> str:
        value = int(found[1], 16)
        return chr(value if value < 0x80 else 0xDC00 + value)

    return re.sub(r"\\x([0-9a-f]{2})", byte, text)


def require_text(path: Path) -> None:
    """Raise UsageError unless a path is UTF-8; Arrow accepts no other."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{escaped_path(str(path))}: expected a path in UTF-8; rename the folder") from error


def require_outside_catalogs(path: Path) -> None:
    """Raise UsageError for a path within a catalog: an export to it could replace a file of the catalog."""
    above = Path(os.path.realpath(os.path.dirname(os.path.abspath(path))))
    for folder in (above, *above.parents):
        if (folder / "manifest.json").is_file() and (folder / "segments").is_dir():
            raise UsageError(
                f"{path}: expected a place outside the catalog {folder}, because it could replace a file of the catalog"
            )


def _link(old: Path, new: Path) -> None:
    """Link a file to an unused second name; on file systems without links rename it."""
    try:
        os.link(old, new)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.ENOTSUP):
            raise
        old.rename(new)


def _beside(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # so that a path such as `.` has a name
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")


def _clear_beside(path: Path) -> None:
    """Remove the partial files of a file or folder that killed processes left: those without a lock."""
    path = Path(os.path.abspath(path))
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 12}.partial"):
        with suppress(OSError), _held(os.open(left, os.O_RDONLY | os.O_NONBLOCK), fails=True):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


@contextmanager
def _held(handle: int, *, fails: bool = False) -> Iterator[None]:
    """Lock a file or folder by its open handle, and close the handle at the end.

    fails: whether to raise OSError if another process holds the lock, or the file system has no locks; otherwise the
    block runs without a lock.
    """
    try:
        with nullcontext() if fails else suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        with suppress(OSError):  # nothing was written through this handle
            os.close(handle)


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot write: {error.strerror or error}; check the folder and the space")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError of a call that uses a descriptor."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
