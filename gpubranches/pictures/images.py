"""Pictures on disk: decoding safely, thumbnails, and where an item's picture is."""

from __future__ import annotations

import io
import math
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from gpubranches.errors import DataError, UsageError
from gpubranches.files import unspelled

FORMATS = {"JPEG": (".jpg", ".jpeg", ".jfif"), "PNG": (".png",), "WEBP": (".webp",), "GIF": (".gif",)}
"""The formats that are decoded, whatever a file is called, and the endings that tell pictures from other files.

Pillow knows many more: decoders that few people look at, and one, of EPS, that starts another program.
"""
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
MAX_SIDE = 65_535
"""Longest side of a picture that is decoded, in pixels: a JPEG has no longer one."""
MAX_PIXELS = 100_000_000
"""Largest picture that is decoded, in pixels; its header alone is read beyond that."""
UPLOAD_PIXELS = 50_000_000
"""Largest picture that is decoded for one who sends it."""
WHOLE_PIXELS = 25_000_000
"""Largest picture that is kept as it is; a larger one is decoded at a fraction of its sides that comes below this."""
_ROWS_AT_ONCE = 256
"""Of a picture that is made smaller or loses its 16 bits a pixel."""
_ORIENTATION = 0x0112
"""The tag of EXIF that says how a picture is turned; 5 to 8 lie on their side."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
COLUMN, TARGET = "image_path", "image_target"
"""Columns: an item's picture, relative to its folder or whole; the file that a link led to when it was taken in."""


def read_image(data: bytes, *, max_pixels: int = UPLOAD_PIXELS) -> Image.Image:
    """Decode a picture that was sent, as `open_image` does one on disk. Raises UsageError saying what is wrong."""
    if not data:
        raise UsageError("image: expected the bytes of a picture, got none")
    try:
        return decode_image(io.BytesIO(data), "image", max_pixels=max_pixels)
    except DataError as error:
        raise UsageError(f"{error}; send a JPEG, PNG, WebP or GIF") from error


def open_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, side: int | None = None) -> Image.Image:
    """Decode a picture: the first frame, upright by its EXIF orientation, RGB, transparency on white.

    Of more than `WHOLE_PIXELS` it is a half, a third and so on in size; side: pixels of its longer side that are
    enough, which a large JPEG is decoded faster to. Raises DataError with a short reason for a missing, empty, broken,
    truncated or over-large file, and for one of no format of `FORMATS`.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"{path}: cannot decode: not a file")
        with open(path, "rb") as file:
            return decode_image(file, str(path), max_pixels=max_pixels, side=side)
    except OSError as error:
        raise DataError(f"{path}: cannot decode: {error}") from error


def decode_image(file: IO[bytes], name: str, *, max_pixels: int = MAX_PIXELS, side: int | None = None) -> Image.Image:
    """Decode an open file as `open_image` does; its name stands in messages."""
    if not file.seek(0, os.SEEK_END):
        raise DataError(f"{name}: the file is empty")
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is odd but harmless; size is checked below
            with Image.open(file, formats=tuple(FORMATS)) as image:
                _require_size(image, name, max_pixels)
                turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
                _draft(image, side)
                image.load()
                flat = _reduced(image)
        return flat if turn is None else flat.transpose(turn)
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not a picture of a known format ({', '.join(FORMATS)})") from error
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds for broken files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: cannot decode: {reason}") from error


def _require_size(image: Image.Image, name: str, max_pixels: int) -> None:
    if max(image.size) > MAX_SIDE:
        raise DataError(f"{name}: {image.width} x {image.height} has a side over {MAX_SIDE:,} pixels")
    if image.width * image.height > max_pixels:
        raise DataError(f"{name}: {image.width} x {image.height} is over {max_pixels:,} pixels")


def _draft(image: Image.Image, side: int | None) -> None:
    """Have a large JPEG decoded at 1/2, 1/4 or 1/8 of its sides; nothing else can be."""
    if side is not None and side < max(image.size):
        image.draft(None, (side, side))
    elif (parts := _parts(image)) > 1:
        image.draft(None, (image.width // parts, image.height // parts))


def _parts(image: Image.Image) -> int:
    """Return by what the sides of a picture are to be divided so that it has at most `WHOLE_PIXELS`."""
    return math.ceil(math.sqrt(image.width * image.height / WHOLE_PIXELS))


def _reduced(image: Image.Image) -> Image.Image:
    """Return a decoded picture as RGB, a large one by strips and smaller, so that it is in memory as it was alone."""
    parts, top = _parts(image), _top(image)
    if parts == 1:
        return _rgb(image, top)
    size = (math.ceil(image.width / parts), math.ceil(image.height / parts))
    small, rows = Image.new("RGB", size), _ROWS_AT_ONCE * parts
    for start in range(0, image.height, rows):
        strip = image.crop((0, start, image.width, min(start + rows, image.height)))
        small.paste(_rgb(strip, top).reduce(parts), (0, start // parts))
    return small


def _top(image: Image.Image) -> float:
    """Return the value that is white in a picture of whole or broken numbers."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return 255.0
    largest = max(float(rows.max(initial=0)) for _, rows in _levels(image))
    return 65535.0 if largest > 255 else 255.0


def _levels(image: Image.Image) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    for start in range(0, image.height, _ROWS_AT_ONCE):
        yield start, np.asarray(image.crop((0, start, image.width, min(start + _ROWS_AT_ONCE, image.height))))


def _rgb(image: Image.Image, top: float) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.empty((image.height, image.width), np.uint8)
        for start, levels in _levels(image):
            grey[start : start + len(levels)] = np.clip(levels.astype(np.float64) * (255 / top), 0, 255)
        return Image.fromarray(grey, "L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def upright_size(path: str | Path) -> tuple[int, int]:
    """Return width and height of a picture in pixels, as it is upright, from its header alone.

    Raises DataError if the header cannot be read, or is of no format of `FORMATS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=tuple(FORMATS)) as image:
                turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
                return (image.height, image.width) if turned else image.size
    except Exception as error:  # Pillow's readers raise many kinds for broken files
        raise DataError(f"{path}: cannot read the header: {type(error).__name__}") from error


def thumbnail(path: str | Path, size: int = 256) -> bytes:
    """Return a JPEG of at most size x size pixels. Raises DataError as `open_image`."""
    return small_jpeg(open_image(path, side=2 * size), size)


def small_jpeg(image: Image.Image, size: int) -> bytes:
    """Return an RGB picture as a JPEG of at most size x size pixels."""
    image = image.copy()
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def image_file(source: dict[str, Any], item: dict[str, Any]) -> Path | None:
    """Return the file of an item's picture, or None.

    source: the catalog's, whose `roots` name folders by input, and `moved` where folders are now; item: metadata with
    `image_path`, `input` where there is more than one root, and `image_target` where a link leads out of the root.
    The path is followed only inside its root; a target is that of the time when the picture was taken in.
    """
    target, named = item.get(TARGET), item.get(COLUMN)
    if isinstance(target, str):
        place = moved(source, unspelled(target))
        return Path(place) if os.path.realpath(place) == place and os.path.isfile(place) else None
    roots = source.get("roots") or {}
    root = roots.get(item.get("input") or "") or (next(iter(roots.values())) if len(roots) == 1 else None)
    if not isinstance(named, str) or root is None or "\0" in named:
        return None
    inside = Path(os.path.realpath(moved(source, root)))
    for name in dict.fromkeys((unspelled(named), named)):  # another program's names are not spelled as ours
        path = Path(os.path.realpath(inside / moved(source, name)))  # of a link to itself, itself, which is no file
        if path.is_relative_to(inside) and os.path.isfile(path):
            return path
    return None


def moved(source: dict[str, Any], place: str) -> str:
    """Return where a file or folder is now that lay at an absolute path when it was taken in, by `source["moved"]`.

    What lies in the new folder of a move already is left there, so that a folder can move into itself.
    """
    steps: Sequence[Sequence[str]] = source.get("moved") or ()
    for before, after in steps:
        if _is_below(place, before) and not _is_below(place, after):
            place = after + place[len(before) :]
    return place


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(f"{folder}/")


def missing_roots(source: dict[str, Any]) -> list[str]:
    """Return the folders of a catalog's pictures that are not there."""
    places = [moved(source, root) for root in (source.get("roots") or {}).values()]
    return [place for place in places if not os.path.isdir(place)]
