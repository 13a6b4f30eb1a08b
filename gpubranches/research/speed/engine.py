"""The types of the benchmark: `Engine`, and `Question`, which is a function to time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Question:
    """One call to time.

    what: its name in tables; work: the call; bytes_read: the bytes that an answer must read, or 0 if not applicable;
    recall: returns the recall of an approximate answer, or None; before: prepares a cold first call, or None.
    """

    what: str
    work: Callable[[], Any]
    bytes_read: int = 0
    recall: Callable[[], float] | None = None
    before: Callable[[], None] | None = None


@dataclass
class Engine:
    """An engine that is ready.

    ready_ms: time to open it; copy_bytes_s: bytes per second of a large copy in the memory of its rows, 0 if not
    measured; built_bytes: size of its data besides the codes.
    """

    name: str
    ready_ms: float
    questions: list[Question] = field(default_factory=list)
    copy_bytes_s: float = 0.0
    built_bytes: int = 0
