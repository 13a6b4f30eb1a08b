"""Write results as Markdown and JSON, with the command that made them and the goals they were to reach."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpubranches.research.tables import Section

Goal = tuple[str, str, bool]
"""A claim, the measured value, and whether the claim holds."""


def command_line(name: str) -> str:
    """Return the command that this process was started with: `python -m benchmarks.NAME` and its options."""
    return shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]])


def document(title: str, command: str, *parts: str) -> str:
    """Return a page of Markdown: its title, the command that made it, and the parts, one paragraph or table each."""
    return "\n\n".join([f"# {title}", f"`{command}`", *parts])


def publish(text: str, out: Path | None) -> None:
    """Print Markdown, and write it to a file if one is named."""
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text.rstrip() + "\n", encoding="utf-8")


def write_pair(out: Path, text: str, data: Any) -> None:
    """Write a page as PREFIX.md and its numbers as PREFIX.json; raises ValueError for a number that is not finite."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(text.rstrip() + "\n", encoding="utf-8")
    out.with_suffix(".json").write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8")


def goals_section(goals: Iterable[Goal]) -> str:
    """Return a section of Markdown with a table of goals; MISS marks goals that were not reached."""
    rows = [(claim, measured, "pass" if held else "MISS") for claim, measured, held in goals]
    return Section("Goals", ("goal", "measured", ""), rows).markdown()
