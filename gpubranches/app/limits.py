"""How often a session may train: a bucket of tokens for each, filled at a steady rate."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from flask import current_app

from gpubranches.errors import TooManyError

_ROUNDING = 1e-9
_KEPT = 10_000
"""Sessions whose buckets are remembered; the one longest not seen is forgotten and has a full one again."""


class Buckets:
    """Buckets of `burst` tokens by name, filled by one every `every_s` seconds. Safe to use from several threads."""

    def __init__(self, burst: int = 20, every_s: float = 2.0, clock: Callable[[], float] = time.monotonic):
        self._burst = burst
        self._every_s = every_s
        self._clock = clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Take a token of `name`; return 0, or, where there is none, the seconds until there is one."""
        now = self._clock()
        with self._lock:
            tokens, at = self._held.pop(name, (float(self._burst), now))
            tokens = min(float(self._burst), tokens + (now - at) / self._every_s)
            # A wait of exactly what was told may miss the token by the last bit of a float.
            wait_s = 0.0 if tokens >= 1 - _ROUNDING else (1 - tokens) * self._every_s
            self._held[name] = (max(0.0, tokens - 1) if not wait_s else tokens), now
            if len(self._held) > _KEPT:
                self._held.popitem(last=False)
        return wait_s


def require_turn(session: str) -> None:
    """Raise TooManyError where a session of the app that is asked trains too often."""
    wait_s = cast(Buckets, current_app.extensions["gpubranches.refines"]).take(session)
    if wait_s:
        raise TooManyError(
            f"expected fewer find alls of one session, one every few seconds; try again in {math.ceil(wait_s)} s",
            math.ceil(wait_s),
        )
