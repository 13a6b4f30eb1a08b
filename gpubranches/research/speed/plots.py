"""PNG plots of a run: latency against rows, a picture a question, the roofline as a line. Needs matplotlib."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gpubranches.errors import missing_package
from gpubranches.research.speed.run import Measure


def draw(measures: Sequence[Measure], folder: Path) -> list[Path]:
    """Write a log-log plot for each question; return the files.

    Approximate and exact answers to the same question share a picture. Raises BackendUnavailableError without
    matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_package("--plots", "matplotlib", "research", error=error) from error
    written = []
    for what in dict.fromkeys(_family(one.what) for one in measures):
        own = [one for one in measures if _family(one.what) == what]
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for label in dict.fromkeys(_label(one) for one in own):
            points = sorted((one.rows, one.p50_ms) for one in own if _label(one) == label)
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
        for engine in dict.fromkeys(one.engine for one in own):
            bound = sorted((one.rows, one.roofline_ms) for one in own if one.engine == engine and one.roofline_ms)
            style, label = ":", f"{engine}: roofline"
            if len(bound) == 1:
                axes.axhline(bound[0][1], linestyle=style, color="grey", label=label)
            elif bound:
                axes.plot(*zip(*bound, strict=True), linestyle=style, color="grey", label=label)
        axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="median, ms", title=what)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(fontsize="small")
        path = folder / f"{re.sub(r'[^a-z0-9]+', '-', what.lower()).strip('-')}.png"
        figure.savefig(path, dpi=120)
        written.append(path)
    return written


def _family(what: str) -> str:
    return what.split(" (")[0]


def _label(one: Measure) -> str:
    detail = one.what[len(_family(one.what)) :].split(", built")[0].strip(" ()")
    recall = "" if one.recall is None else f", recall {one.recall:.2f}"
    return f"{one.engine} {detail}{recall}".strip()
