"""Tables of every report: rows of texts, printed to the terminal or written as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A table with its heading; rows are texts or numbers, the first column a name."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[object]]

    def markdown(self) -> str:
        """Return the table as Markdown, under a heading of the second order."""
        return f"## {self.title}\n\n{markdown_table(self.header, self.rows)}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as Markdown, without a heading."""
    return "\n".join([_line(header), "|" + "---|" * len(header), *map(_line, rows)])


def with_error(mean: float, error: float) -> str:
    """Return a mean with its standard error, if there is one; a dash for NaN."""
    if math.isnan(mean):
        return "-"
    return short(mean) if math.isnan(error) else f"{short(mean)} ±{short(error)}"


def short(value: float) -> str:
    """Return three decimals without the leading zero."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def json_number(value: float) -> float | None:
    """Return a number with four decimals for JSON, None for NaN."""
    return None if math.isnan(value) else round(value, 4)


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
