"""PNG plots of a run: latency against rows, one plot per question, the roofline as a line. Needs matplotlib."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpubranches.research.canvas import GREY, Figures
from gpubranches.research.speed.run import Measure


def draw(measures: Sequence[Measure], folder: Path) -> list[Path]:
    """Write a log-log plot for each question; return the files.

    Approximate and exact answers to the same question share a picture. Raises BackendUnavailableError without
    matplotlib, DataError if the folder cannot be written.
    """
    figures = Figures(folder)
    for what in dict.fromkeys(_family(one.what) for one in measures):
        with figures(f"{re.sub(r'[^a-z0-9]+', '-', what.lower()).strip('-')}.png", 7, 4.5) as figure:
            _by_rows(figure.add_subplot(), what, [one for one in measures if _family(one.what) == what])
    return figures.written


def _by_rows(axes: Any, what: str, measures: Sequence[Measure]) -> None:
    for label in dict.fromkeys(map(_label, measures)):
        points = sorted((one.rows, one.p50_ms) for one in measures if _label(one) == label)
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    for engine in dict.fromkeys(one.engine for one in measures):
        bound = sorted((one.rows, one.roofline_ms) for one in measures if one.engine == engine and one.roofline_ms)
        style = {"linestyle": ":", "color": GREY, "label": f"{engine}: roofline"}
        if len(bound) == 1:
            axes.axhline(bound[0][1], **style)
        elif bound:
            axes.plot(*zip(*bound, strict=True), **style)
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="median, ms", title=what)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")


def _family(what: str) -> str:
    """Return the question without text in brackets, such as the name of an index."""
    return what.split(" (")[0]


def _label(one: Measure) -> str:
    detail = one.what[len(_family(one.what)) :].split(", built")[0].strip(" ()")
    recall = "" if one.recall is None else f", recall {one.recall:.2f}"
    return f"{one.engine} {detail}{recall}".strip()
