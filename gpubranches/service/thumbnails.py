"""Thumbnails, and a cache of them in memory and in a folder, both of bounded size."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
import uuid
import zlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from PIL import Image

from gpubranches.catalog.pictures.decoding import Source, decoded_path
from gpubranches.catalog.pictures.image_files import Picture

_log = logging.getLogger(__name__)

_PARTS = 64
"""Number of subfolders. Each is kept below its share of the limit, so that only a small folder has to be listed."""

_SUM_BYTES = 4
"""Size of the CRC-32 at the end of each file."""


class Thumbnails:
    """JPEG thumbnails by key, at most `limit_bytes` in memory and about `folder_bytes` in a folder.

    folder: created with the first thumbnail; None for memory alone. If it cannot be written, a warning is logged and
    memory alone is used. The least recently used thumbnails are dropped from memory, the oldest from the folder.
    """

    def __init__(self, folder: Path | None = None, *, limit_bytes: int = 64 << 20, folder_bytes: int = 2 << 30):
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._part_bytes = folder_bytes // _PARTS
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str, picture: Source, size: int) -> bytes:
        """Return the thumbnail of a picture, cached under `key`. Raises DataError if it cannot be read."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        file = self._file(key)
        jpeg = read_kept(file)
        if not jpeg:
            jpeg = thumbnail(picture, size)
            self._write(file, jpeg)
        with self._lock:
            self._bytes += len(jpeg) - len(self._held.pop(key, b""))
            self._held[key] = jpeg
            while self._bytes > self._limit_bytes:
                self._bytes -= len(self._held.popitem(last=False)[1])
        return jpeg

    def _file(self, key: str) -> Path | None:
        if self._folder is None:
            return None
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / f"{int(digest[:8], 16) % _PARTS:02}" / f"{digest[:32]}.jpg"

    def _write(self, file: Path | None, jpeg: bytes) -> None:
        """Write a thumbnail, completely or not at all. It is not synced to the disk, because it can be made again."""
        if file is None:
            return
        part = file.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(jpeg + _sum(jpeg))
            part.replace(file)
            self._shrink(file.parent)
        except OSError as error:
            _log.warning("thumbnails are cached in memory only: %s", error)
            self._folder = None
            with suppress(OSError):
                part.unlink()

    def _shrink(self, folder: Path) -> None:
        with self._lock:
            files = []
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):  # another process may have removed it
                    files.append((entry.stat(), entry.path))
            surplus = sum(stat.st_size for stat, _ in files) - self._part_bytes
            for stat, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
                if surplus <= 0:
                    return
                Path(path).unlink(missing_ok=True)
                surplus -= stat.st_size


def read_kept(file: Path | None) -> bytes:
    """Return a cached thumbnail; nothing if there is none, or if its checksum shows that it is damaged."""
    try:
        content = b"" if file is None else file.read_bytes()
    except OSError:
        return b""
    jpeg = content[:-_SUM_BYTES]
    return jpeg if content[-_SUM_BYTES:] == _sum(jpeg) else b""


def _sum(jpeg: bytes) -> bytes:
    return zlib.crc32(jpeg).to_bytes(_SUM_BYTES, "little")


def thumbnail(path: Source, size: int = 256) -> bytes:
    """Return a JPEG of at most size x size pixels. Raises DataError if it cannot be read."""
    with decoded_path(path, side=2 * size) as image:
        return small_jpeg(image, size)


def small_jpeg(image: Image.Image, size: int) -> bytes:
    """Return an RGB picture as a JPEG of at most size x size pixels."""
    image = image.copy()
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def version(picture: Picture | None) -> str:
    """Return a name for the content of a picture: from the path, time and size of its file, and its position in it.

    "" if there is no file. No request is sent to a store: the id of the item is used in place of time and size, because
    a sync gives changed content a new id.
    """
    if picture is None:
        return ""
    place = "" if picture.is_file else f"\0{picture.start}\0{picture.size}\0{picture.row}\0{picture.seconds}"
    if isinstance(picture.path, str):
        name = f"{picture.path}\0{picture.id}{place}"
    else:
        try:
            stat = picture.path.stat()
        except OSError:
            return ""
        name = f"{picture.path.absolute()}\0{stat.st_mtime_ns}\0{stat.st_size}{place}"
    return hashlib.sha256(name.encode()).hexdigest()[:16]
