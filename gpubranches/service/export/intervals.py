"""Matched frames of videos as intervals of time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from typing import NamedTuple

from gpubranches.catalog.metadata.columns import IMAGE_PATH, IMAGE_SECONDS
from gpubranches.errors import UsageError
from gpubranches.service.export.csv_and_json import csv_lines, safe_cell
from gpubranches.service.export.item_table import ItemTable, Row

_DEFAULT_EVERY_S = 5.0
_HEADER = ("input", "video", "start", "end", "frames", "best_score")


def write_intervals(table: ItemTable) -> Generator[bytes, None, int]:
    """Return a generator of a CSV of intervals: video, start and end in seconds, frames; it returns their number.

    Frames of a video that follow each other are one interval, which ends where the next frame would be. A frame of a
    scene lasts until the next frame of the catalog; the last one of a video, for the longest time between two.
    Intervals are in the order of videos and times. Raises UsageError if the catalog has no frames of videos.
    """
    if IMAGE_SECONDS not in table.columns:
        raise UsageError("intervals: expected a catalog with frames of videos, got none; choose csv, json or parquet")
    return _intervals(table)


class _Frame(NamedTuple):
    """A matched frame. start, end: seconds; the frame after it starts at the end."""

    start: float
    end: float
    score: float


def _intervals(table: ItemTable) -> Generator[bytes, None, int]:
    made_with = table.source.get("made_with", {})
    every = float(made_with.get("frames_every", _DEFAULT_EVERY_S))
    frames: defaultdict[tuple[str, str], list[_Frame]] = defaultdict(list)
    for part in table.parts():
        rows = [row for row in part if row[IMAGE_SECONDS] is not None]
        following = table.following(rows) if "frames_at" in made_with else [None] * len(rows)
        for row, after in zip(rows, following, strict=True):
            start = row[IMAGE_SECONDS]
            follows = after is not None and after.get(IMAGE_SECONDS) is not None and _video(after) == _video(row)
            end = after[IMAGE_SECONDS] if after is not None and follows else start + every
            frames[_video(row)].append(_Frame(start, end, float("-inf") if row["score"] is None else row["score"]))
    yield csv_lines([_HEADER])
    written = 0
    for (input, video), found in sorted(frames.items()):
        lines = _joined(sorted(found))
        yield csv_lines([(safe_cell(input), safe_cell(video), *line) for line in lines])
        written += len(lines)
    return written


def _video(row: Row) -> tuple[str, str]:
    return str(row.get("input") or ""), str(row[IMAGE_PATH])


def _joined(frames: list[_Frame]) -> list[tuple[str, str, int, str]]:
    """Return start, end, number of frames and best score of each run of frames that follow each other."""
    runs: list[list[_Frame]] = []
    for frame in frames:
        last = runs[-1][-1] if runs else None
        if last is not None and frame.start <= last.start + 1.001 * (last.end - last.start):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [
        (f"{run[0].start:g}", f"{run[-1].end:g}", len(run), _score(max(frame.score for frame in run))) for run in runs
    ]


def _score(value: float) -> str:
    return "" if value == float("-inf") else f"{value:g}"
