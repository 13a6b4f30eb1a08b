"""Sums that do not depend on the number of cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_one_at_a_time = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS at one thread. One fit at a time, for it is global."""
    with _one_at_a_time, _controller().limit(limits=1):
        yield


@cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
