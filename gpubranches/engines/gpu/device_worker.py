"""The thread that runs all work of one device, and its request queue."""

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
MAX_BATCH = 64
_COMPARED_BYTES = 1 << 20
_RECOVERABLE = (DeviceMemoryError, KernelCompileError, BackendUnavailableError)
"""Errors after which the device still works."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FilterKey:
    """A `where` bitmap, or None, as a part of a batch key. Two keys are equal if their bitmaps have the same bits.

    Each user who filters by the same condition has a bitmap of their own. Comparing two bitmaps costs less than sending
    one to the card.
    """

    where: Bitmap | None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FilterKey):
            return NotImplemented
        a, b = self.where, other.where
        if a is b or a is None or b is None:
            return a is b
        starts = range(0, len(a), _COMPARED_BYTES)
        equal = (np.array_equal(a[i : i + _COMPARED_BYTES], b[i : i + _COMPARED_BYTES]) for i in starts)
        return len(a) == len(b) and all(equal)

    def __hash__(self) -> int:
        return 0 if self.where is None else len(self.where)


@dataclass(eq=False)
class _Request:
    batch_key: Hashable | None
    item: Any
    run_batch: Callable[[list[Any]], list[Any]]
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None


class DeviceWorker:
    """Runs all work of a device in one thread, in order of arrival, and runs waiting requests of one kind as a batch.

    trim: called in the thread after memory ran out and the memory of the attempt was released; it frees the memory that
    the device keeps for reuse. free: called in the thread when it ends. After any device error other than a lack of
    memory or a kernel that does not compile, the device is unusable, and every later call raises DeviceError. An
    exception in the thread is raised in every waiting caller. No call waits for a thread that has ended.
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
        """Run work in the thread; return its result or raise its error."""
        return self.submit(None, None, lambda _: [work()])

    def submit(self, batch_key: Hashable | None, item: Item, run_batch: Callable[[list[Item]], list[Result]]) -> Result:
        """Run a request in the thread and return its result.

        run_batch: gets this item and those of all waiting requests with the same batch_key, and returns one result for
        each. batch_key: None for a request that is always run alone.
        """
        request = _Request(batch_key, item, run_batch)
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
        """Raise DeviceError if the device was lost or the worker was closed."""
        with self._changed:
            self._require()

    def close(self) -> None:
        """End the thread after the current batch. Waiting requests get DeviceError. Closing twice does nothing."""
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
        """Wait for a request; return False if the worker was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return not self._closed

    def _step(self) -> None:
        """Run the next batch. If comparing batch keys fails, raise the error in all waiting callers."""
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
        """Remove the first request and those with its batch key from the queue, and return them."""
        with self._changed:
            first, others = self._waiting[0], list(self._waiting)[1:]
        batch = [first]
        if first.batch_key is not None:
            # Comparing filters may take long. Only this thread removes requests, so no lock is needed.
            batch += [other for other in others if other.batch_key == first.batch_key][: MAX_BATCH - 1]
        with self._changed:
            for request in batch:
                self._waiting.remove(request)
        return batch

    def _answer(self, batch: list[_Request]) -> None:
        """Run a batch. If memory is too small for all of it, run each half."""
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
        if self._lost is None and isinstance(error, DeviceError) and not isinstance(error, _RECOVERABLE):
            self._lost = error
        _finish(batch, error)

    def _attempt(self, batch: list[_Request]) -> BaseException | None:
        """Run a batch; return the exception that it raised, or None."""
        try:
            if self._lost is not None:
                self._require()
            results = batch[0].run_batch([request.item for request in batch])
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
        """Free the device and raise DeviceError in all waiting callers."""
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
    """Clear the frames of an error and of its causes, because they keep the buffers of the failed attempt."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        clear_frames(one.__traceback__)
        chain += [one.__cause__, one.__context__]
