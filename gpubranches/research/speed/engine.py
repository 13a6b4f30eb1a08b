"""The types of the benchmark: `Engine`, and `Question`, which is a function to time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Question:
    """One thing to time: what is asked, how, and the bytes that must be read to answer it, 0 where that means nothing.

    recall: a function that returns the recall of an approximate answer, or None; before: what makes the first call a
    cold one, or None.
    """

    what: str
    work: Callable[[], Any]
    bytes_read: int = 0
    recall: Callable[[], float] | None = None
    before: Callable[[], None] | None = None


@dataclass
class Engine:
    """An engine that is ready: how long that took, its questions, and the bytes of what it built beside the codes."""

    name: str
    ready_ms: float
    questions: list[Question] = field(default_factory=list)
    copy_bytes_s: float = 0.0
    built_bytes: int = 0
