"""A layer between the program and the disk, in which one call fails: the calls that write, in the order they come."""

import errno
import os
from contextlib import ExitStack, contextmanager
from unittest import mock

WRITING = os.O_WRONLY | os.O_RDWR
KINDS = ("ENOSPC", "EIO", "EACCES", "short", "lost")
"""An error's name; "short": half of it is written, then the disk is full; "lost": all is taken and nothing written."""


class Faults:
    """Counts the calls that change a folder; the one numbered `at` fails. `calls` names each that came."""

    def __init__(self, folder, at=-1, kind="EIO"):
        self.folder, self.at, self.kind = str(folder), at, kind
        self.calls = []
        self._open, self._handles = {}, set()
        self._full = None

    def _fails(self, name, path):
        """Note a call and return whether it is the one that fails."""
        self.calls.append((name, str(path)))
        return len(self.calls) - 1 == self.at

    def _error(self, kind=None):
        number = getattr(errno, kind or (self.kind if self.kind.startswith("E") else "EIO"))
        return OSError(number, os.strerror(number))

    def _inside(self, path):
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)

    def open(self, real):
        def call(path, flags, *more, **named):
            written = bool(flags & WRITING) and self._inside(path)
            if written and self._fails("open", path):
                raise self._error()
            handle = real(path, flags, *more, **named)
            self._handles.discard(handle)
            if self._inside(path):
                self._open[handle] = os.fspath(path)
            if written:
                self._handles.add(handle)
            return handle

        return call

    def write(self, real):
        def call(handle, data):
            if handle not in self._handles:
                return real(handle, data)
            if handle == self._full:
                raise self._error("ENOSPC")
            if not self._fails("write", self._open[handle]):
                return real(handle, data)
            if self.kind == "short":
                self._full = handle
                return real(handle, data[: max(1, len(data) // 2)]) if len(data) > 1 else 0 or real(handle, data)
            if self.kind == "lost":
                return len(data)
            raise self._error()

        return call

    def fsync(self, real):
        def call(handle):
            if handle in self._open and self._fails("fsync", self._open[handle]):
                raise self._error()
            return real(handle)

        return call

    def close(self, real):
        def call(handle):
            path = self._open.pop(handle, None)
            written = handle in self._handles
            self._handles.discard(handle)
            real(handle)
            if written and self._fails("close", path):
                raise self._error()

        return call

    def by_path(self, name, real):
        def call(path, *more, **named):
            if self._inside(path) and self._fails(name, path):
                raise self._error()
            return real(path, *more, **named)

        return call

    @contextmanager
    def on(self):
        """Put the layer in for a block."""
        with ExitStack() as stack:
            for name in ("open", "write", "fsync", "close"):
                stack.enter_context(mock.patch.object(os, name, getattr(self, name)(getattr(os, name))))
            for name in ("replace", "rename", "mkdir", "unlink", "rmdir", "symlink", "truncate"):
                stack.enter_context(mock.patch.object(os, name, self.by_path(name, getattr(os, name))))
            yield self
