"""Videos: one frame every few seconds, or of each scene, is an item."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.metadata.columns import IMAGE_PATH, IMAGE_SECONDS
from gpubranches.catalog.pictures.frames import VIDEO_ENDINGS, clock, duration, keyframes, open_frames
from gpubranches.core.files import escaped_path
from gpubranches.core.threads import cores
from gpubranches.errors import DataError
from gpubranches.ingestion.embedding import decoding_threads
from gpubranches.ingestion.options import SCENES
from gpubranches.ingestion.pieces import Piece
from gpubranches.ingestion.protocol import Input, InputFiles, Kind, Opener, Part
from gpubranches.ingestion.scenes import keep_scene_times, known_scene_times

if TYPE_CHECKING:
    import pyarrow as pa


class VideoFrames:
    """The frames of videos at 0, `every_s`, 2 `every_s`, ... seconds, or at their scenes.

    scenes: whether frames are those of `scene_times`, at most about `every_s` seconds apart. kept: the folder that
    keeps the times of scenes, or None. Items have `image_path` (the video) and `image_seconds` (the time of the frame),
    and for display `video`, `seconds` and `title`. A video that cannot be read has one row, with the reason.
    """

    whole_files = False

    def __init__(self, root: str, every_s: float, scenes: bool = False, kept: Path | None = None):
        self.root, self._every_s, self._scenes, self._kept = root, every_s, scenes, kept
        self._times: dict[str, NDArray[np.float64]] = {}
        self.broken: dict[str, str] = {}

    def frames(self, path: str) -> int:
        """Return how many frames of a video are items, at least 1.

        Raises BackendUnavailableError without PyAV, DataError if the times of scenes cannot be kept.
        """
        try:
            if not self._scenes:
                # A frame at the very end of the video would be the one before it again.
                return max(1, int((duration(path) - 1e-3) / self._every_s) + 1)
            times, unkept = known_scene_times(path, self._every_s, self._kept)
        except DataError as error:
            self.broken[path] = str(error).removeprefix(f"{escaped_path(path)}: ")
            return 1
        if unkept is not None:  # a full disk is no fault of the video
            keep_scene_times(unkept, times)
        self._times[path] = times
        return len(times)

    def _seconds(self, path: str, row: int) -> float:
        return row * self._every_s if not self._scenes else float(self._times[path][row])

    def openers(self, piece: Piece, rows: Sequence[int]) -> Iterator[Opener]:
        """Yield an opener for each of these frames of a video."""
        if piece.path in self.broken:
            yield from (Opener.broken(piece.path, self.broken[piece.path]) for _ in rows)
            return
        with keyframes(piece.path) as keyframe:
            frames, at = None, 0.0
            for row in rows:
                seconds = self._seconds(piece.path, row)
                before, at = at, keyframe(seconds)
                if frames is None or at != before:
                    frames = _ForwardFrames(piece.path)
                yield Opener(f"{piece.path} at {clock(seconds)}", frames.opener(seconds))

    def items(self, parts: Sequence[Part]) -> pa.Table:
        """Return the metadata of frames."""
        import pyarrow as pa

        rows = [
            (piece, None if piece.path in self.broken else self._seconds(piece.path, row))
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


class _ForwardFrames:
    """The wanted frames of a video after one keyframe, decoded in one pass by the first thread that needs one.

    The openers must be made in ascending order of time. A wanted frame that was decoded on the way to a later one is
    kept until its own opener is called. So there are at most as many frames in memory as threads that decode.
    """

    def __init__(self, path: str):
        self._path, self._times = path, list[float]()
        self._frames: Iterator[IO[bytes] | DataError] = open_frames(path, self._times)
        self._passed: dict[int, IO[bytes] | DataError] = {}
        self._done, self._lock = 0, threading.Lock()

    def opener(self, seconds: float) -> Callable[[], IO[bytes]]:
        """Return a function that opens the frame at a time; it may be called once."""
        self._times.append(seconds)
        return functools.partial(self._open, len(self._times) - 1)

    def _open(self, number: int) -> IO[bytes]:
        with self._lock:
            while self._done <= number:
                try:
                    self._passed[self._done] = next(self._frames)
                except DataError as error:  # the frames after a broken one cannot be decoded
                    self._frames = itertools.repeat(error)
                    continue
                self._done += 1
            found = self._passed.pop(number)
        if isinstance(found, DataError):
            raise found
        return found


def _open_input(given: InputFiles) -> Input:
    options = given.options
    videos = VideoFrames(given.place, options.frames_every, options.frames_at == SCENES, given.kept)
    pieces, first = list[Piece](), 0
    with decoding_threads(cores()) as threads:
        counts = threads.map(videos.frames, [path for _, path in given.files])
        for number, ((name, path), rows) in enumerate(zip(given.files, counts, strict=True)):
            pieces.append(Piece(name, (given.state(path),), first, rows))
            first += rows
            given.progress("scanning", number + 1, len(given.files))
    return Input(given.place, tuple(pieces), pictures=videos)


KIND = Kind(
    "videos",
    "a video, or a folder of them, .mp4, .mov, .mkv, .webm, .avi and others, with [video]: a frame every few seconds, "
    "or of each scene",
    VIDEO_ENDINGS,
    _open_input,
)
