"""The one thread that owns a device, and the queue in front of it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from traceback import clear_frames
from typing import Any, TypeVar

import numpy as np

from gpubranches.core.bitmaps import Bitmap
from gpubranches.errors import BackendUnavailableError, DeviceError, DeviceMemoryError, KernelCompileError

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_TOGETHER = 64
_COMPARED_BYTES = 1 << 20
_SURVIVED = (DeviceMemoryError, KernelCompileError, BackendUnavailableError)
"""Errors after which the device still works."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Filter:
    """A `where` bitmap, or None, in what requests have alike: equal to another with the same bits.

    Users who filter by the same condition have a bitmap each; to compare two costs less than to send one to the card.
    """

    where: Bitmap | None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        a, b = self.where, other.where
        if a is b or a is None or b is None:
            return a is b
        pieces = range(0, len(a), _COMPARED_BYTES)
        alike = (np.array_equal(a[i : i + _COMPARED_BYTES], b[i : i + _COMPARED_BYTES]) for i in pieces)
        return len(a) == len(b) and all(alike)

    def __hash__(self) -> int:
        return 0 if self.where is None else len(self.where)


@dataclass(eq=False)
class _Request:
    alike: Hashable | None
    item: Any
    together: Callable[[list[Any]], list[Any]]
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None


class Owner:
    """Runs all work for a device in one thread, in order of arrival; waiting requests of one kind are run together.

    trim: called in the thread after memory ran out and the memory of the attempt was released; it frees the memory that
    the device keeps for reuse. free: called in the thread when it ends. After any device error other than a lack of
    memory or a kernel that does not compile the device is unusable, and every later call raises DeviceError. An
    exception in the thread is raised in every waiting caller, and no call waits for a thread that has ended.
    """

    def __init__(self, name: str, free: Callable[[], None], trim: Callable[[], None] = lambda: None):
        self._free = free
        self._trim = trim
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._lost: DeviceError | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], Result]) -> Result:
        """Run work in the thread and return what it returns, or raise what it raises."""
        return self.share(None, None, lambda _: [work()])

    def share(self, alike: Hashable | None, item: Item, together: Callable[[list[Item]], list[Result]]) -> Result:
        """Return the result of item; `together` gets it with the items of waiting requests that have the same `alike`.

        alike: None for a request that is always run by itself.
        """
        request = _Request(alike, item, together)
        with self._changed:
            self._require()
            self._waiting.append(request)
            self._changed.notify()
        request.done.wait()
        if request.error is not None:
            raise request.error
        result: Result = request.result
        return result

    def require(self) -> None:
        """Raise DeviceError if the device was lost or the owner was closed."""
        with self._changed:
            self._require()

    def close(self) -> None:
        """End the thread after the work at hand; what still waits gets DeviceError. Closing twice does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _require(self) -> None:
        if self._lost is not None:
            raise DeviceError(f"the device was lost: {self._lost}")
        if self._closed or not self._thread.is_alive():  # a forked process does not have this thread
            raise DeviceError("the backend is closed; open the catalog again")

    def _run(self) -> None:
        try:
            while self._wait():
                self._step()
        finally:
            self._give_up()

    def _wait(self) -> bool:
        """Wait for a request; return False if there is none because the owner was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return not self._closed

    def _step(self) -> None:
        """Answer the first request and those of its kind; if comparing kinds fails, give the error to all who wait."""
        try:
            batch = self._next()
        except BaseException as error:
            with self._changed:
                batch = list(self._waiting)
                self._waiting.clear()
            _finish(batch, error)
            return
        try:
            self._answer(batch)
        except BaseException as error:
            _finish([request for request in batch if not request.done.is_set()], error)

    def _next(self) -> list[_Request]:
        """Take the first request and those alike."""
        with self._changed:
            first, others = self._waiting[0], list(self._waiting)[1:]
        batch = [first]
        if first.alike is not None:
            # Comparing filters may take long; only this thread removes requests, so no lock is needed.
            batch += [other for other in others if other.alike == first.alike][: MOST_TOGETHER - 1]
        with self._changed:
            for request in batch:
                self._waiting.remove(request)
        return batch

    def _answer(self, batch: list[_Request]) -> None:
        """Answer requests of one kind together, or in halves where memory is too small for all of them."""
        error = self._attempt(batch)
        if error is not None:
            _release(error)
        if isinstance(error, DeviceMemoryError):
            error = self._trimmed() or error
        if isinstance(error, DeviceMemoryError) and len(batch) > 1:
            middle = len(batch) // 2
            self._answer(batch[:middle])
            self._answer(batch[middle:])
            return
        if self._lost is None and isinstance(error, DeviceError) and not isinstance(error, _SURVIVED):
            self._lost = error
        _finish(batch, error)

    def _attempt(self, batch: list[_Request]) -> BaseException | None:
        """Run a batch; return the exception that it raised, or None."""
        try:
            if self._lost is not None:
                self._require()
            results = batch[0].together([request.item for request in batch])
            for request, result in zip(batch, results, strict=True):
                request.result = result
        except BaseException as error:
            return error
        return None

    def _trimmed(self) -> BaseException | None:
        """Free the memory that the device keeps for reuse; return the exception that this raised, or None."""
        try:
            self._trim()
        except BaseException as error:
            return error
        return None

    def _give_up(self) -> None:
        """Free the device and refuse what still waits."""
        try:
            self._free()
        except Exception as error:
            _log.warning("the device was closed, but some of its memory was not freed: %s", error)
        finally:
            with self._changed:
                self._closed = True
                batch = list(self._waiting)
                self._waiting.clear()
            _finish(batch, DeviceError("the backend was closed before it ran this request; open the catalog again"))


def _finish(batch: list[_Request], error: BaseException | None) -> None:
    """Wake the callers of these requests, with their results or an error."""
    for request in batch:
        request.error = error
        request.done.set()


def _release(error: BaseException) -> None:
    """Clear the frames of an error and its causes, which hold the buffers of the failed attempt."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        clear_frames(one.__traceback__)
        chain += [one.__cause__, one.__context__]
