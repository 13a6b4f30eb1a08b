"""Videos: one frame every few seconds is an item."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gpubranches.catalog.metadata.columns import IMAGE_PATH, IMAGE_SECONDS
from gpubranches.catalog.pictures.frames import VIDEO_ENDINGS, clock, duration, open_frame
from gpubranches.core.files import escaped_path
from gpubranches.errors import DataError
from gpubranches.ingestion.pieces import Piece
from gpubranches.ingestion.protocol import Input, InputFiles, Kind, Opener, Part

if TYPE_CHECKING:
    import pyarrow as pa


class VideoFrames:
    """The frames of videos at 0, `every_s`, 2 `every_s`, ... seconds.

    Items have `image_path` (the video) and `image_seconds` (the time of the frame), and for display `video`, `seconds`
    and `title`. A video that cannot be read has one row, with the reason.
    """

    whole_files = False

    def __init__(self, root: str, every_s: float):
        self.root, self._every_s = root, every_s
        self.broken: dict[str, str] = {}

    def frames(self, path: str) -> int:
        """Return how many frames of a video are items, at least 1. Raises BackendUnavailableError without PyAV."""
        try:
            # A frame at the very end of the video would be the one before it again.
            return max(1, int((duration(path) - 1e-3) / self._every_s) + 1)
        except DataError as error:
            self.broken[path] = str(error)
            return 1

    def openers(self, piece: Piece, rows: Sequence[int]) -> Iterator[Opener]:
        """Yield an opener for each of these frames of a video."""
        for row in rows:
            if piece.path in self.broken:
                yield Opener(piece.path, functools.partial(_refuse, self.broken[piece.path]))
            else:
                seconds = row * self._every_s
                yield Opener(f"{piece.path} at {clock(seconds)}", functools.partial(open_frame, piece.path, seconds))

    def items(self, parts: Sequence[Part]) -> pa.Table:
        """Return the metadata of frames."""
        import pyarrow as pa

        rows = [
            (piece, None if piece.path in self.broken else row * self._every_s)
            for piece, start, stop in parts
            for row in range(start, stop)
        ]
        times = pa.array([seconds for _, seconds in rows], pa.float64())
        names = pa.array([escaped_path(piece.name) for piece, _ in rows], pa.string())
        titles = [
            f"{escaped_path(os.path.basename(piece.name))} {clock(seconds)}" if seconds is not None else None
            for piece, seconds in rows
        ]
        return pa.table(
            {
                IMAGE_PATH: names,
                IMAGE_SECONDS: times,
                "title": pa.array(titles, pa.string()),
                "video": names,
                "seconds": times,
            }
        )


def _refuse(reason: str) -> Any:
    raise DataError(reason)


def _open_input(given: InputFiles) -> Input:
    videos, pieces, first = VideoFrames(given.place, given.options.frames_every), [], 0
    for number, (name, path) in enumerate(given.files):
        pieces.append(Piece(name, (given.state(path),), first, videos.frames(path)))
        first += pieces[-1].rows
        given.progress("scanning", number + 1, len(given.files))
    return Input(given.place, tuple(pieces), pictures=videos)


KIND = Kind(
    "videos",
    "a video, or a folder of them, .mp4, .mov, .mkv, .webm, .avi and others, with [video]: a frame every few seconds",
    VIDEO_ENDINGS,
    _open_input,
)
