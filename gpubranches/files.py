"""Files and folders that appear whole or not at all, and their names as text."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from gpubranches.errors import DataError, UsageError


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that takes the place of an older one when the block ends, and is gone if it fails.

    Raises DataError when it cannot be written.
    """
    partial = _beside(path)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that gets its name when the block ends, and is gone if it fails.

    Raises UsageError where there is something already that is no empty folder, DataError when it cannot be written.
    """
    partial = _beside(path)
    try:
        if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
            raise UsageError(f"{path}: expected an empty or new folder; choose another")
        partial.mkdir(parents=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def spelled(path: str) -> str:
    r"""Return a path as text that can be stored and shown: each byte that is not UTF-8 is written \xNN.

    A backslash that stands before such letters in the name itself is \x5c, so that no two paths are spelled alike.
    """
    named = re.sub(r"\\(?=x[0-9a-f]{2})", r"\\x5c", path)
    return re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", named)


def unspelled(text: str) -> str:
    """Return the path that `spelled` wrote so, as the system's calls take it."""

    def byte(found: re.Match[str]) -> str:
        value = int(found[1], 16)
        return chr(value if value < 0x80 else 0xDC00 + value)

    return re.sub(r"\\x([0-9a-f]{2})", byte, text)


def require_text(path: Path) -> None:
    """Raise UsageError unless a path is UTF-8: Arrow takes no other."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{spelled(str(path))}: expected a path in UTF-8; rename the folder") from error


def _beside(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # a dot has no name of its own
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot write: {error.strerror or error}; check the folder and the space")
