"""The times of scene changes in videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import disk_errors
from gpubranches.catalog.pictures.frames import decoded, decoding, open_video
from gpubranches.core.arrays import open_npy
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import atomic_file, make_folder, write_npy
from gpubranches.errors import CatalogFormatError
from gpubranches.ingestion.pieces import FileState

THRESHOLD = 0.1
"""The difference of two frames from which on a new scene begins: the default of FFmpeg's filter `scdet`, 10%."""
SHORTEST_S = 0.5
"""The shortest time between two frames, so that a flash gives one item and not one per frame."""
_WIDTH = 160
"""The width in pixels to which frames are reduced before they are compared."""


def scene_times(path: str, longest_s: float) -> NDArray[np.float64]:
    """Return the times of a video's frames that are items, (n,) float64, ascending seconds from its beginning.

    These are the first frame, each frame that begins a scene, and the next frame after `longest_s` seconds without one.
    Two frames are `SHORTEST_S` or more apart. The score of a frame is that of FFmpeg's filters `select` and `scdet`:
    the smaller one of two values, the mean absolute difference to the frame before, and the change of this difference.
    Every frame of the video is decoded once, and one is held at a time. Raises DataError for a video without frames,
    and BackendUnavailableError without PyAV.
    """
    import av

    found: list[float] = []
    with open_video(path) as (container, stream), decoding(path, stream):
        start = float((stream.start_time or 0) * stream.time_base)
        graph = av.filter.Graph()
        cut = rf"gt(scene\,{THRESHOLD})*gte(t-prev_selected_t\,{SHORTEST_S})"
        chosen = rf"isnan(prev_selected_t)+{cut}+gte(t-prev_selected_t\,{longest_s})"
        graph.link_nodes(
            graph.add_buffer(template=stream),
            graph.add("scale", f"{_WIDTH}:-2:flags=area+accurate_rnd+bitexact"),
            graph.add("select", chosen),
            graph.add("buffersink"),
        ).configure()
        try:
            for frame in chain(decoded(container, stream), [None]):
                if frame is None or frame.pts is not None:
                    graph.push(frame)
                    found += (each.time - start for each in _pulled(graph))
        except av.FFmpegError:
            if not found:
                raise
    return np.round(np.array(found or [0.0]), 6)


def _pulled(graph: Any) -> Iterator[Any]:
    """Yield the frames that a graph has finished."""
    import av

    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


def known_scene_times(path: str, longest_s: float, folder: Path | None) -> tuple[NDArray[np.float64], Path | None]:
    """Return `scene_times`, from a folder if it has those of the file in its present state.

    Also return the file where `keep_scene_times` is to keep them; None if they are kept, or without a folder.
    """
    if folder is None:
        return scene_times(path, longest_s), None
    file = folder / f"{digest(repr((path, FileState.at(path).state, longest_s, THRESHOLD, SHORTEST_S, _WIDTH)))}.npy"
    if file.exists():
        with suppress(CatalogFormatError):  # of a damaged file, which is made again
            return _checked_times(file), None
    return scene_times(path, longest_s), file


def keep_scene_times(file: Path, times: NDArray[np.float64]) -> None:
    """Write the times of a video's scenes. Raises DataError if they cannot be written."""
    with disk_errors(file.parent):
        make_folder(file.parent)
    with atomic_file(file) as out:
        write_npy(out, times)


def _checked_times(file: Path) -> NDArray[np.float64]:
    """Return the times in a file. Raises CatalogFormatError unless they are finite, ascending, and 0 or more."""
    times = np.array(open_npy(file))
    sound = times.dtype == np.float64 and times.ndim == 1 and len(times) > 0 and bool(np.isfinite(times).all())
    if not sound or times[0] < 0 or bool((np.diff(times) <= 0).any()):
        raise CatalogFormatError(f"{file}: expected ascending times in seconds; remove the file")
    return times
