"""Linear algebra on one thread, whose results do not depend on the number of cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_limits: list[Any] = []
"""One entry for each block of `one_thread` that is running; the first one is the limit."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS use one thread within the block. The limit is global; it ends when no thread is in such a block.

    Threads of BLAS wait for each other by spinning. On a busy machine a small product then takes many times as long as
    on one thread, and other threads lose the cores that spin.
    """
    with _lock:
        _limits.append(None if _limits else _controller().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            if len(_limits) == 1:
                _limits[0].restore_original_limits()
            _limits.pop()


@cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
