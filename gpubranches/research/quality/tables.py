"""Tables of the evaluation: for the terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A table with its heading; rows are texts, the first column a name."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """Return the table as Markdown, under a heading of the second order."""
        lines = [f"## {self.title}", "", _line(self.header), "|" + "---|" * len(self.header), *map(_line, self.rows)]
        return "\n".join(lines)


def with_error(mean: float, error: float) -> str:
    """Return a mean with its standard error where there is one; a dash for NaN."""
    if math.isnan(mean):
        return "-"
    return short(mean) if math.isnan(error) else f"{short(mean)} ±{short(error)}"


def short(value: float) -> str:
    """Return three decimals without the leading zero."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
