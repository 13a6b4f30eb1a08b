"""PNG plots of an evaluation: F1 against marks, precision against recall, F1 against rounds. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpubranches.research.canvas import PALETTE, Figures, quiet
from gpubranches.research.quality.comparison import LEVELS, Comparison
from gpubranches.research.quality.report import Report
from gpubranches.research.quality.rounds import PAGE

_GAP = 0.042
"""The least distance of two labels, as a share of the axis."""


def draw(report: Report, folder: Path) -> list[Path]:
    """Write f1-by-marks.png, precision-recall.png and, if rounds were played, f1-by-round.png; return the files.

    Raises BackendUnavailableError without matplotlib, DataError if the folder cannot be written.
    """
    figures = Figures(folder)
    with figures("f1-by-marks.png", 8, max(4.5, 0.27 * len(report.models.values))) as figure:
        _by_marks(figure, report)
    panels = len(report.models.places)
    with figures("precision-recall.png", 3 * panels + 2.4, max(3.7, 0.25 * len(report.models.curves))) as figure:
        _precision_recall(figure, report)
    if report.rounds is not None:
        with figures("f1-by-round.png", 9.5, 4.5) as figure:
            _by_round(figure, report.rounds)
    return figures.written


def _by_marks(figure: Any, report: Report) -> None:
    models = report.models
    axes = figure.add_subplot()
    ends: dict[str, float] = {}
    colours, dashes = _colours(list(models.values), report.against), _dashes(list(models.values), report.against)
    for name in models.values:
        own = models.has(name, "f1")
        points = np.array([models.mean(name, "f1" if own else "oracle", p) for p in models.places])
        first = name == report.against
        axes.plot(
            models.places,
            points[:, 0],
            marker="o",
            markersize=4.5 if first else 3.5,
            linewidth=2.4 if first else 1.3,
            linestyle=dashes[name] if own else ":",
            color=colours[name],
            zorder=3 if first else 2,
        )
        if first:
            _band(axes, models.places, points, colours[name])
        ends[name if own else f"{name} (best cut)"] = points[-1, 0]
        colours.setdefault(f"{name} (best cut)", colours[name])
    axes.set(xlabel="marked right, at most", ylabel="F1 over the whole catalog")
    axes.set_title(_title(report.n, models), loc="left", fontsize="medium")
    axes.set_xticks(models.places)
    _label_ends(axes, models.places[-1], ends, colours, _span(models.places))
    quiet(axes)


def _precision_recall(figure: Any, report: Report) -> None:
    models = report.models
    names = sorted(models.curves, key=lambda name: -models.mean(name, "average_precision", models.places[-1])[0])
    colours, dashes = _colours(list(models.values), report.against), _dashes(list(models.values), report.against)
    panels = figure.subplots(1, len(models.places), sharey=True, squeeze=False)[0]
    for axes, p in zip(panels, models.places, strict=True):
        for name in names:
            first = name == report.against
            axes.plot(
                LEVELS,
                models.curve(name, p),
                color=colours[name],
                linestyle=dashes[name],
                linewidth=2.4 if first else 1.3,
                zorder=3 if first else 2,
                label=name,
            )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall")
        axes.set_title(f"p = {p}", loc="left", fontsize="medium")
        quiet(axes)
    panels[0].set_ylabel("precision, unmarked items")
    if names:
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize="small")


def _by_round(figure: Any, rounds: Comparison) -> None:
    colours = _colours(list(rounds.values), next(iter(rounds.values)))
    panels = figure.subplots(1, 2, sharey=True)
    sides = (("f1", "oracle", "all items"), ("unmarked", "oracle_unmarked", "unmarked items only"))
    for axes, (measure, oracle, title) in zip(panels, sides, strict=True):
        for number, name in enumerate(rounds.values):
            points = np.array([rounds.mean(name, measure, place) for place in rounds.places])
            best = [rounds.mean(name, oracle, place)[0] for place in rounds.places]
            axes.plot(
                rounds.places,
                points[:, 0],
                marker="o",
                markersize=4,
                linewidth=1.6 if number else 2.4,
                color=colours[name],
                zorder=2 if number else 3,
            )
            axes.plot(rounds.places, best, linestyle=":", linewidth=1.1, color=colours[name])
            if not number:
                _band(axes, rounds.places, points, colours[name])
        axes.set(xlabel=f"round, {PAGE} marks each")
        axes.set_xticks(rounds.places)
        axes.set_title(title, loc="left", fontsize="medium")
        quiet(axes)
    for axes, (measure, _, _) in zip(panels, sides, strict=True):
        last = {name: rounds.mean(name, measure, rounds.places[-1])[0] for name in rounds.values}
        ends = {name: end for name, end in last.items() if not math.isnan(end)}
        _label_ends(axes, rounds.places[-1], ends, colours, _span(rounds.places))
    panels[0].set_ylabel("F1  (dotted: best cut, an oracle's)")


def _band(axes: Any, places: Sequence[int], points: np.ndarray[Any, Any], colour: str) -> None:
    """Shade one standard error on either side."""
    errors = np.nan_to_num(points[:, 1])
    axes.fill_between(places, points[:, 0] - errors, points[:, 0] + errors, color=colour, alpha=0.15, linewidth=0)


def _label_ends(axes: Any, x: float, ends: Mapping[str, float], colours: Mapping[str, str], span: float) -> None:
    """Write the names at the ends of the lines, in their colours, and move them apart if they would overlap."""
    bottom, top = axes.get_ylim()
    names = sorted(ends, key=lambda name: ends[name])
    gap = min(_GAP, 0.97 / max(1, len(names))) * (top - bottom)
    heights = _inside(_apart([ends[name] for name in names], gap), gap, bottom, top)
    axes.set_ylim(bottom, top)
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            name,
            xy=(x, ends[name]),
            xytext=(x + 0.06 * span, height),
            color=colours[name],
            fontsize="small",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[name],
                "linewidth": 0.6,
                "alpha": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 0.0,
                "shrinkB": 3,
            },
        )


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Return ascending heights at least `gap` apart, near the wanted ones, which ascend.

    Neighbours that would overlap form a group around the mean of their wanted heights.
    """
    groups: list[tuple[float, int]] = []
    for value in wanted:
        mean, size = value, 1
        while groups and mean - (size - 1) * gap / 2 < groups[-1][0] + (groups[-1][1] + 1) * gap / 2:
            before, count = groups.pop()
            mean, size = (mean * size + before * count) / (size + count), size + count
        groups.append((mean, size))
    return [mean + (i - (size - 1) / 2) * gap for mean, size in groups for i in range(size)]


def _inside(heights: list[float], gap: float, bottom: float, top: float) -> list[float]:
    """Push ascending heights, at least `gap` apart, between bottom and top."""
    for row in range(len(heights) - 1, -1, -1):
        heights[row] = min(heights[row], top - (len(heights) - 1 - row) * gap)
    return [max(height, bottom + row * gap) for row, height in enumerate(heights)]


def _colours(names: Sequence[str], first: str) -> dict[str, str]:
    """Give the first colour to one name, and the others in turn to the rest."""
    others = [name for name in names if name != first]
    return {first: PALETTE[0]} | {name: PALETTE[1 + i % (len(PALETTE) - 1)] for i, name in enumerate(others)}


def _dashes(names: Sequence[str], first: str) -> dict[str, str]:
    """Return solid lines for the first use of each colour, and dashed lines from the second use on."""
    others = [name for name in names if name != first]
    return {first: "-"} | {name: "-" if i < len(PALETTE) - 1 else "--" for i, name in enumerate(others)}


def _span(places: Sequence[int]) -> float:
    return float(places[-1] - places[0]) or 1.0


def _title(n: int, models: Comparison) -> str:
    errors = [
        models.mean(name, "oracle" if not models.has(name, "f1") else "f1", p)[1]
        for name in models.values
        for p in models.places
    ]
    told = [error for error in errors if not math.isnan(error)]
    error = f", standard errors up to {max(told):.3f}" if told else ""
    return f"{n:,} items, {len(models.concepts)} concepts{error}"
