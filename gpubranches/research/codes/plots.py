"""PNG plots of the report on codes: recall, shares found, distances, entropy. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpubranches.research.canvas import PALETTE, Figures, quiet
from gpubranches.research.codes.codecs import BYTES
from gpubranches.research.codes.measures import FIRST
from gpubranches.research.codes.measuring import Measured
from gpubranches.research.codes.report import CodesReport

_STYLES = ("-", "--", ":")


def draw(report: CodesReport, folder: Path) -> list[Path]:
    """Write codes-recall.png, codes-found.png, codes-distances.png and codes-entropy.png; return the files.

    Raises BackendUnavailableError without matplotlib, DataError if the folder cannot be written.
    """
    figures = Figures(folder)
    kinds = len(report.task.queries)
    with figures("codes-recall.png", 4.2 * kinds + 2.2, 4.8) as figure:
        _recall(figure, report)
    with figures("codes-found.png", 4.2 * kinds + 1.5, 1.4 + 0.26 * len(report.results)) as figure:
        _found(figure, report)
    with figures("codes-distances.png", 8, 4.5) as figure:
        _distances(figure, report)
    with figures("codes-entropy.png", 8, 4.5) as figure:
        _entropy(figure, report)
    return figures.written


def _recall(figure: Any, report: CodesReport) -> None:
    """Draw the recall among the first R of the codecs of 32 bytes, with one colour per method."""
    small = [result for result in report.results if result.bytes == BYTES]
    looks = _looks(small)
    panels = figure.subplots(1, len(report.task.queries), sharey=True, squeeze=False)[0]
    for axes, (kind, queries) in zip(panels, report.task.queries.items(), strict=True):
        for result in small:
            colour, style = looks[result.name]
            curve = result.found[kind].curve()
            axes.plot(range(1, len(curve) + 1), curve, color=colour, linestyle=style, linewidth=1.5, label=result.name)
        axes.set(xscale="log", xlim=(1, FIRST), ylim=(0, 1.01), xlabel="first R")
        axes.set_title(f"{len(queries):,} {kind}", loc="left", fontsize="medium")
        quiet(axes)
    panels[0].set_ylabel(f"true nearest among the first R, {BYTES} bytes an item")
    if small:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize="small")


def _found(figure: Any, report: CodesReport) -> None:
    """Draw the share of the true 100 among the first 100 of every codec, with standard errors."""
    looks = _looks(report.results)
    names = [f"{result.name}, {result.bytes:,} B" for result in report.results]
    panels = figure.subplots(1, len(report.task.queries), sharey=True, squeeze=False)[0]
    for axes, (kind, queries) in zip(panels, report.task.queries.items(), strict=True):
        shares = np.array([result.found[kind].share() for result in report.results])
        colours = [looks[result.name][0] for result in report.results]
        at = np.arange(len(names))
        axes.barh(at, shares[:, 0], xerr=np.nan_to_num(shares[:, 1]), color=colours, height=0.7, ecolor="#303840")
        axes.set_yticks(at, names)
        axes.set(xlim=(0, 1.02), xlabel=f"share of the true {FIRST} among the first {FIRST}")
        axes.set_title(f"{len(queries):,} {kind}", loc="left", fontsize="medium")
        quiet(axes)
        axes.grid(visible=False, axis="y")
    panels[0].invert_yaxis()


def _distances(figure: Any, report: CodesReport) -> None:
    """Draw how far image queries are from the nearest of the base, before and after every head."""
    axes = figure.add_subplot()
    largest = max(float(spread.distances.max()) for spread in report.spreads)
    edges = np.linspace(0, largest * 1.02 or 1.0, 60)
    for number, spread in enumerate(report.spreads):
        turn = number // len(PALETTE) % len(_STYLES)
        axes.hist(
            spread.distances,
            bins=edges,
            histtype="step",
            linewidth=1.5,
            color=PALETTE[number % len(PALETTE)],
            linestyle=_STYLES[turn],
            label=spread.name,
        )
    axes.set(xlabel="distance to the nearest on the unit sphere", ylabel="image queries")
    axes.legend(frameon=False, fontsize="small")
    quiet(axes)


def _entropy(figure: Any, report: CodesReport) -> None:
    """Draw the entropy of every code dim, largest first."""
    axes = figure.add_subplot()
    coded = [spread for spread in report.spreads if spread.entropy is not None]
    for number, spread in enumerate(coded):
        if spread.entropy is not None:
            entropy = np.sort(spread.entropy)[::-1]
            style = _STYLES[number // len(PALETTE) % len(_STYLES)]
            colour = PALETTE[number % len(PALETTE)]
            axes.plot(range(1, len(entropy) + 1), entropy, marker="o", markersize=3, color=colour, linestyle=style)
            axes.lines[-1].set_label(spread.name)
    axes.set(xlabel="code dim, by entropy", ylabel="entropy of its values, bits of 8", ylim=(0, 8.1))
    axes.legend(frameon=False, fontsize="small")
    quiet(axes)


def _looks(results: Sequence[Measured]) -> dict[str, tuple[str, str]]:
    """Return colour and line style by codec: one colour per method, and one style for each of its codecs."""
    methods = list(dict.fromkeys(result.method for result in results))
    looks: dict[str, tuple[str, str]] = {}
    for method in methods:
        colour = PALETTE[methods.index(method) % len(PALETTE)]
        names = [result.name for result in results if result.method == method]
        looks |= {name: (colour, _STYLES[i % len(_STYLES)]) for i, name in enumerate(names)}
    return looks
