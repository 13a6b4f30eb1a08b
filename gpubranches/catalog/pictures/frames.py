"""Single frames of video files."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

from gpubranches.catalog.pictures.memory import MemoryBudget
from gpubranches.core.files import escaped_path
from gpubranches.errors import DataError, missing_package

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".3gp")
"""The endings of video files."""
MAX_FRAME_PIXELS = 36_000_000
"""Largest frame that is decoded, in pixels: 8K."""
_OPTIONS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,ogg", "protocol_whitelist": "file"}
"""Containers that are read. A playlist under the name of a video could name other files and addresses."""
_FRAME_PIXEL_BYTES = 32
"""Memory for a pixel of a frame: the frames that others refer to, and the picture."""
_FRAMES = MemoryBudget(MAX_FRAME_PIXELS * _FRAME_PIXEL_BYTES)
_DECODING = "decoding the frame"
_TOLERANCE_S = 1e-6
_SLACK_S = 1.0
"""How much earlier than stated the pictures of a complete video may end, for example if its sound is longer."""


def duration(path: str | Path) -> float:
    """Return the length of a video in seconds: the length its file states, or less if its pictures end much earlier.

    Pictures end earlier in a truncated file. Raises DataError for a file without a video, or of unknown length.
    """
    with open_video(path) as (container, stream):
        if stream.duration is not None:
            told = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            told = float(container.duration / 1_000_000)
        else:
            raise DataError(f"{escaped_path(str(path))}: the length of the video is unknown")
        if _end(container, stream, told) >= told - _SLACK_S:
            return told
        end = _end(container, stream, 0)  # without an index the last pictures may not have been found
    return min(end, told) if end > 0 else told


def _end(container: Any, stream: Any, after_s: float) -> float:
    """Return the end of the last picture after a time, in seconds from the beginning, or 0 if there is none."""
    import av

    first = stream.start_time or 0
    try:
        _seek(container, stream, after_s)
        times = ((packet.dts if packet.pts is None else packet.pts, packet) for packet in container.demux(stream))
        ends = (time + (packet.duration or 0) for time, packet in times if time is not None)
        return _seconds(stream, max(ends, default=first) - first)
    except av.FFmpegError:
        return 0.0


def open_frame(path: str | Path, seconds: float) -> IO[bytes]:
    """Open the first frame at or after a time, or the last frame, as a BMP file, upright.

    seconds: from the beginning of the video. Raises DataError if there is no such frame, BackendUnavailableError
    without PyAV.
    """
    with closing(open_frames(path, [seconds])) as files:
        return next(files)


def open_frames(path: str | Path, times: Iterable[float]) -> Generator[IO[bytes]]:
    """Yield what `open_frame` gives for ascending times, decoded in one pass from the keyframe of the first one on."""
    with open_video(path) as (container, stream):
        start = _seconds(stream, stream.start_time or 0)
        frames: Iterator[Any] | None = None
        last = None
        for seconds in times:
            with decoding(path, stream):
                if frames is None:
                    _seek(container, stream, seconds)
                    frames = decoded(container, stream)
                while last is None or (last.time is not None and last.time - start < seconds - _TOLERANCE_S):
                    frame = next(frames, None)
                    if frame is None:
                        break
                    last = frame
                if last is None:
                    raise DataError(f"{escaped_path(str(path))}: no frame at {seconds:g} s")
                image, out = last.to_image(), io.BytesIO()
                (image.rotate(last.rotation, expand=True) if last.rotation else image).save(out, "BMP")
            out.seek(0)
            yield out


@contextmanager
def keyframes(path: str | Path) -> Iterator[Callable[[float], float]]:
    """Yield a function that returns the time of the packet from which a frame is decoded, both in seconds.

    Frames with the same keyframe are best decoded together. Nothing is decoded. Raises DataError for a file that is no
    video; without a readable packet the function returns the time it is given.
    """
    import av

    with open_video(path) as (container, stream):

        def keyframe(seconds: float) -> float:
            try:
                _seek(container, stream, seconds)
                packet = next(container.demux(stream))
            except (av.FFmpegError, StopIteration):
                return seconds
            time = packet.dts if packet.pts is None else packet.pts
            return seconds if time is None else _seconds(stream, time)

        yield keyframe


@contextmanager
def decoding(path: str | Path, stream: Any) -> Iterator[None]:
    """Hold the memory for frames of a video, in a thread that decodes some. Raises DataError for frames too large."""
    size = stream.codec_context.width * stream.codec_context.height
    if size > MAX_FRAME_PIXELS:
        raise DataError(f"{escaped_path(str(path))}: a frame has over {MAX_FRAME_PIXELS:,} pixels")
    with _FRAMES.share(size * _FRAME_PIXEL_BYTES, escaped_path(str(path)), _DECODING):
        yield


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Decode the frames of a video from its present position on, in one thread."""
    stream.codec_context.thread_count = 1
    yield from container.decode(stream)


def _seek(container: Any, stream: Any, seconds: float) -> None:
    """Go to the last keyframe at or before a time."""
    container.seek((stream.start_time or 0) + int(seconds / stream.time_base), stream=stream)


def _seconds(stream: Any, time: int) -> float:
    return float(time * stream.time_base)


def frame_size(path: str | Path) -> tuple[int, int]:
    """Return width and height of a video's upright frames in pixels; the first frame is decoded once per process.

    Raises the errors of `open_frame`, and OSError for a missing file.
    """
    stat = os.stat(path)
    return _frame_size(os.fspath(path), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(4096)
def _frame_size(path: str, mtime_ns: int, size: int) -> tuple[int, int]:
    from PIL import Image

    with open_frame(path, 0) as file, Image.open(file, formats=("BMP",)) as image:
        return image.size


def clock(seconds: float) -> str:
    """Return a time in the usual form, such as "1:02:05" or "0:07.5", to the millisecond."""
    whole, thousandths = divmod(round(1000 * seconds), 1000)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    text = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"{text}.{f'{thousandths:03}'.rstrip('0')}" if thousandths else text


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """Open a video; yield its container and its first stream of pictures.

    Raises DataError for a file that is no video or cannot be decoded inside the block, BackendUnavailableError without
    PyAV.
    """
    try:
        import av
    except ImportError as error:
        raise missing_package("a video", "PyAV", "video", error=error) from error
    name = escaped_path(str(path))
    try:
        if os.path.getsize(path) == 0:
            raise DataError(f"{name}: the file is empty")
        with av.open(os.fspath(path), options=dict(_OPTIONS)) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise DataError(f"{name}: the file has no video")
            if stream.codec_context is None:
                raise DataError(f"{name}: the codec of the video is unknown")
            yield container, stream
    except (av.FFmpegError, OSError, ValueError, ArithmeticError) as error:  # the last for times beyond 64 bits
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{name}: cannot read the video: {reason}") from error
