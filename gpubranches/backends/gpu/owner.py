"""The one thread that owns a device, and the queue in front of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from gpubranches.arrays import Bitmap
from gpubranches.errors import DeviceError, DeviceMemoryError, KernelCompileError

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_TOGETHER = 64
_COMPARED_BYTES = 1 << 20


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
    """Runs all work for a device in one thread, in the order it comes; requests alike that wait are run together.

    free: called in the thread when it ends. An error of the device other than a lack of memory or a kernel that does
    not compile leaves the device unusable: every later call raises DeviceError.
    """

    def __init__(self, name: str, free: Callable[[], None]):
        self._free = free
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

    def close(self) -> None:
        """End the thread after the work at hand; what still waits gets DeviceError. Closing twice does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _require(self) -> None:
        if self._lost is not None:
            raise DeviceError(f"the device was lost: {self._lost}; open the catalog again, or take the cpu backend")
        if self._closed:
            raise DeviceError("the backend is closed; open the catalog again")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    break
            self._answer(self._next())
        self._give_up()

    def _next(self) -> list[_Request]:
        """Take the first request and those alike."""
        with self._changed:
            first, others = self._waiting.popleft(), list(self._waiting)
        if first.alike is None:
            return [first]
        # Filters may be large to compare; nobody else takes requests away meanwhile.
        batch = [first, *(other for other in others if other.alike == first.alike)][:MOST_TOGETHER]
        with self._changed:
            for request in batch[1:]:
                self._waiting.remove(request)
        return batch

    def _answer(self, batch: list[_Request]) -> None:
        try:
            if self._lost is not None:
                self._require()
            results = batch[0].together([request.item for request in batch])
            for request, result in zip(batch, results, strict=True):
                request.result = result
        except DeviceMemoryError as error:
            if len(batch) > 1:
                for request in batch:
                    self._answer([request])
                return
            batch[0].error = error
        except BaseException as error:
            if isinstance(error, DeviceError) and not isinstance(error, KernelCompileError):
                self._lost = error
            for request in batch:
                request.error = error
        for request in batch:
            request.done.set()

    def _give_up(self) -> None:
        """Free the device and refuse what still waits."""
        try:
            self._free()
        finally:
            for request in self._waiting:
                request.error = DeviceError("the backend was closed before it came to this request")
                request.done.set()
            self._waiting.clear()
