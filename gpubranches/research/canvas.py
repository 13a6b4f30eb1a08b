"""Figures that become PNG files, their colours and their axes, for all plots. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpubranches.catalog.storage import disk_errors
from gpubranches.errors import missing_package

PALETTE = (
    "#0b5fa5",
    "#d1495b",
    "#2e8b57",
    "#e08e0b",
    "#7b4fa3",
    "#00828a",
    "#a0522d",
    "#5b6770",
    "#c2408f",
    "#6b8e23",
)
GREY = "#5f6670"
_DPI = 130


class Figures:
    """Figures in a folder; written: the files so far. Raises BackendUnavailableError without matplotlib."""

    def __init__(self, folder: Path):
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise missing_package("plots", "matplotlib", "research", error=error) from error
        self._folder = folder
        self._canvas, self._figure = FigureCanvasAgg, Figure
        self.written: list[Path] = []

    @contextmanager
    def __call__(self, name: str, width: float, height: float) -> Iterator[Any]:
        """Yield an empty figure of that size in inches, and write it at the end. Raises DataError if it cannot."""
        figure = self._figure(figsize=(width, height), layout="constrained")
        self._canvas(figure)
        yield figure
        with disk_errors(self._folder):
            figure.savefig(self._folder / name, dpi=_DPI)
        self.written.append(self._folder / name)


def quiet(axes: Any) -> None:
    """Reduce axes to what is read: two spines and a pale grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#d8dce0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelsize="small")
