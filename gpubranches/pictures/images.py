"""Pictures on disk: finding, decoding safely, thumbnails."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gpubranches.errors import DataError, UsageError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""What is decoded of what is sent: of the others, Pillow has decoders that few people look at."""
MAX_PIXELS = 100_000_000
"""Largest picture that is decoded, in pixels; its header alone is read beyond that."""
UPLOAD_PIXELS = 50_000_000
"""Largest picture that is decoded for one who sends it."""
_ROWS_AT_ONCE = 256
"""Of a picture with 16 bits a pixel, while they become 8."""
_ORIENTATION = 0x0112
"""The tag of EXIF that says how a picture is turned; 5 to 8 lie on their side."""


def list_images(folder: Path) -> list[str]:
    """Return the pictures under a folder by their endings, recursive, as sorted relative POSIX paths.

    Hidden files and folders are left out; links to folders are not followed.
    """
    return sorted(_walk(folder, ""))


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot read the folder: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/")
        elif entry.name.lower().endswith(ENDINGS) and os.path.isfile(entry.path):  # no link to itself
            yield prefix + entry.name


def printable(path: str) -> str:
    """Return a path as text that can be stored and shown: bytes that are not UTF-8 become replacement characters."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_image(data: bytes, *, max_pixels: int = UPLOAD_PIXELS) -> Image.Image:
    """Decode a picture that was sent, as `open_image` does one on disk. Raises UsageError saying what is wrong."""
    if not data:
        raise UsageError("image: expected the bytes of a picture, got none")
    try:
        return _decode(io.BytesIO(data), "image", max_pixels, _FORMATS)
    except DataError as error:
        raise UsageError(f"{error}; send a JPEG, PNG, WebP or GIF") from error


def open_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture: the first frame, upright by its EXIF orientation, RGB, transparency on white.

    Raises DataError with a short reason for a missing, empty, broken, truncated or over-large file.
    """
    try:
        if os.path.getsize(path) == 0:
            raise DataError(f"{path}: the file is empty")
    except OSError as error:
        raise DataError(f"{path}: cannot decode: {error}") from error
    return _decode(path, str(path), max_pixels)


def _decode(
    file: str | Path | io.BytesIO, name: str, max_pixels: int, formats: tuple[str, ...] | None = None
) -> Image.Image:
    """Decode a file whose name stands in messages."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is odd but harmless; size is checked below
            with Image.open(file, formats=formats) as image:
                if image.width * image.height > max_pixels:
                    raise DataError(f"{name}: {image.width} x {image.height} is over {max_pixels:,} pixels")
                image.load()
                return _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not a picture of a known format") from error
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds for broken files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: cannot decode: {reason}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image)
        top = 65535.0 if levels.max(initial=0) > 255 else 255.0
        grey = np.empty(levels.shape, np.uint8)
        for start in range(0, len(levels), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            grey[rows] = np.clip(levels[rows].astype(np.float64) * (255 / top), 0, 255)
        return Image.fromarray(grey, "L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def upright_size(path: str | Path) -> tuple[int, int]:
    """Return width and height of a picture in pixels, as `open_image` turns it, from its header alone.

    Raises DataError if the header cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
                return (image.height, image.width) if turned else image.size
    except Exception as error:  # Pillow's readers raise many kinds for broken files
        raise DataError(f"{path}: cannot read the header: {type(error).__name__}") from error


def thumbnail(path: str | Path, size: int = 256) -> bytes:
    """Return a JPEG of at most size x size pixels. Raises DataError as `open_image`."""
    return small_jpeg(open_image(path), size)


def small_jpeg(image: Image.Image, size: int) -> bytes:
    """Return an RGB picture as a JPEG of at most size x size pixels."""
    image = image.copy()
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def image_file(source: dict[str, Any], item: dict[str, Any]) -> Path | None:
    """Return the file of an item's picture, or None.

    source: the catalog's, whose `roots` name folders by input; item: metadata with `image_path`, and `input` where
    there is more than one root. The path is followed only inside its root.
    """
    roots = source.get("roots") or {}
    relative = item.get("image_path")
    root = roots.get(item.get("input") or "") or (next(iter(roots.values())) if len(roots) == 1 else None)
    if not isinstance(relative, str) or root is None:
        return None
    if "\0" in relative:
        return None
    inside = Path(os.path.realpath(root))
    path = Path(os.path.realpath(inside / relative))  # of a link to itself, itself, which is no file
    return path if path.is_relative_to(inside) and os.path.isfile(path) else None
