"""Matched frames of videos as intervals of time."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Generator

from gpubranches.catalog.metadata.columns import IMAGE_PATH, IMAGE_SECONDS
from gpubranches.errors import UsageError
from gpubranches.service.export.item_table import ItemTable
from gpubranches.service.export.texts import safe_cell

_DEFAULT_EVERY_S = 5.0
_HEADER = ("input", "video", "start", "end", "frames", "best_score")


def write_intervals(table: ItemTable) -> Generator[bytes, None, int]:
    """Return a generator of a CSV of intervals: video, start and end in seconds, frames; it returns their number.

    Frames of a video that follow each other are one interval, which ends where the next frame would be. Intervals are
    in the order of videos and times. Raises UsageError if the catalog has no frames of videos.
    """
    if IMAGE_SECONDS not in table.columns:
        raise UsageError("intervals: expected a catalog with frames of videos, got none; choose csv, json or parquet")
    return _intervals(table)


def _intervals(table: ItemTable) -> Generator[bytes, None, int]:
    every = float(table.source.get("made_with", {}).get("frames_every", _DEFAULT_EVERY_S))
    frames: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for rows in table.parts():
        for row in rows:
            if row[IMAGE_SECONDS] is not None:
                score = float("-inf") if row["score"] is None else row["score"]
                frames[str(row.get("input") or ""), str(row[IMAGE_PATH])].append((row[IMAGE_SECONDS], score))
    yield _lines([_HEADER])
    written = 0
    for (input, video), found in sorted(frames.items()):
        lines = _joined(sorted(found), every)
        yield _lines([(safe_cell(input), safe_cell(video), *line) for line in lines])
        written += len(lines)
    return written


def _joined(frames: list[tuple[float, float]], every: float) -> list[tuple[str, str, int, str]]:
    """Return start, end, number of frames and best score of each run of frames at most `every` seconds apart."""
    runs: list[list[tuple[float, float]]] = []
    for frame in frames:
        if runs and frame[0] - runs[-1][-1][0] <= every * 1.001:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [
        (f"{run[0][0]:g}", f"{run[-1][0] + every:g}", len(run), _score(max(score for _, score in run))) for run in runs
    ]


def _score(value: float) -> str:
    return "" if value == float("-inf") else f"{value:g}"


def _lines(rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
