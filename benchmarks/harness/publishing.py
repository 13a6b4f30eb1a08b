"""Results as Markdown: the command that made them, the goals they were to reach, and the file they are written to."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

Goal = tuple[str, str, bool]
"""A claim, what was measured, and whether the claim holds."""


def command_line(name: str) -> str:
    """Return the command that this process was started with: `python -m benchmarks.NAME` and its options."""
    return shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]])


def publish(text: str, out: Path | None) -> None:
    """Print Markdown, and write it to a file where one is named."""
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text.rstrip() + "\n", encoding="utf-8")


def goals_table(goals: Iterable[Goal]) -> list[str]:
    """Return the lines of a Markdown table of goals, MISS for those that were not reached."""
    rows = [f"| {claim} | {measured} | {'pass' if held else 'MISS'} |" for claim, measured, held in goals]
    return ["| goal | measured | |", "|---|---|---|", *rows]
