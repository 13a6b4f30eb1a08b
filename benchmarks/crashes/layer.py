"""Record the calls of a process that change files under a folder, and make one of them fail, by `calls.c`."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS = {"none": 0, "kill": 1, "torn": 2, "fail": 3, "short": 4, "full": 5}
"""Faults at a call: none; the process is killed before it, or after half of a write; it fails with an error; half of it
is written, then the disk is full; the disk is full from this call on."""
MADE, EMPTIED, WRITABLE = 1, 2, 4
_ERRORS = {
    "o": ("ENOSPC", "EIO", "EACCES"),
    "w": ("ENOSPC", "EIO"),
    "f": ("ENOSPC", "EIO"),
    "c": ("ENOSPC", "EIO"),
    "t": ("EIO",),
    "T": ("EIO", "EACCES"),
    "r": ("ENOSPC", "EIO", "EACCES"),
    "m": ("ENOSPC", "EIO", "EACCES"),
    "s": ("ENOSPC", "EIO", "EACCES"),
    "l": ("ENOSPC", "EIO", "EACCES"),
    "u": ("EIO", "EACCES"),
    "k": ("ENOLCK", "EIO", "EACCES"),
}
"""The errors with which a call can fail."""
_BY_HANDLE = "wfctk"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made.

    what: o open, w write, f fsync, c close, t truncate by handle, T by path, r rename, m mkdir, s symlink, l link, u
    unlink or rmdir, k lock, n a note; number: among the calls that can fail, -1 for others; result: of the call; flags:
    of an open, MADE, EMPTIED and WRITABLE; path: its first path; other: the new path or the target.
    """

    what: str
    number: int
    handle: int
    result: int
    offset: int
    flags: int
    path: str
    other: str
    data: bytes

    @property
    def changes(self) -> bool:
        """Whether it changes the disk, or the content that the disk may have after a power cut."""
        return self.what in "wftTrmslu" or (self.what == "o" and bool(self.flags & (MADE | EMPTIED)))

    @property
    def takes_space(self) -> bool:
        """Whether it fails on a full disk."""
        return self.what in "wmsl" or (self.what == "o" and bool(self.flags & MADE))

    @property
    def name(self) -> str:
        """The name of the file or folder, with n in place of numbers and random parts."""
        return re.sub(r"[0-9a-f]*\d[0-9a-f]*", "n", os.path.basename(self.path))

    @property
    def errors(self) -> tuple[str, ...]:
        """Names of the errors that the call can raise."""
        return _ERRORS[self.what]


def is_loaded() -> bool:
    """Return whether this process runs over the layer."""
    return hasattr(ctypes.CDLL(None), "layer_arm")


def run_over(folder: Path, arguments: list[str]) -> int:
    """Run Python over the layer, compiled into a folder; return the exit status. One thread a library, for forks."""
    library = folder / "calls.so"
    source = Path(__file__).with_name("calls.c")
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)  # nosec B607  # the user's compiler
    threads = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(threads, "1"), "LD_PRELOAD": str(library)}
    return subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode


def arm(folder: Path, log: int, kind: str = "none", at: int = -1, error: str = "", *, first: int = 0) -> None:
    """Watch a folder from now on.

    log: the handle of a file; at: the number of the call at which `kind` happens; first: the number of the next call,
    below 0 while calls are not counted as points.
    """
    number = getattr(errno, error) if error else 0
    ctypes.CDLL(None).layer_arm(os.fsencode(folder), log, ctypes.c_long(first), ctypes.c_long(at), KINDS[kind], number)


def fired() -> bool:
    """Return whether the call of the fault was reached."""
    return bool(ctypes.CDLL(None).layer_fired())


def note(text: str) -> None:
    """Record a text among the calls."""
    ctypes.CDLL(None).layer_note(text.encode())


def read_calls(log: Path) -> list[Call]:
    """Return the recorded calls."""
    return list(_calls(log.read_bytes()))


def _calls(content: bytes) -> Iterator[Call]:
    at, handles = 0, dict[int, str]()
    while at < len(content):
        end = content.index(b"\n", at)
        what, *numbers = content[at:end].decode().split()
        number, handle, result, offset, flags, *sizes = map(int, numbers)
        parts, at = [], end + 1
        for size in sizes:
            parts.append(content[at : at + size])
            at += size
        paths = [os.path.normpath(os.fsdecode(part)) if part and what not in "n" else os.fsdecode(part)
                 for part in parts[:2]]  # fmt: skip
        if what == "s":
            paths[1] = os.fsdecode(parts[1])
        if what == "o":
            handles[handle] = paths[0]
        elif what in _BY_HANDLE:
            paths[0] = handles[handle]
        yield Call(what, number, handle, result, offset, flags, paths[0], paths[1], parts[2])
