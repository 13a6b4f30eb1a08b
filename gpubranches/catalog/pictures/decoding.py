"""Safe decoding of picture files from any source, within a memory budget; thumbnails."""

from __future__ import annotations

import io
import math
import os
import stat
import warnings
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TypeGuard

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from gpubranches.catalog.pictures import jxl
from gpubranches.catalog.pictures.formats import FORMATS, UPLOADS, format_of, register
from gpubranches.catalog.pictures.frames import frame_size
from gpubranches.catalog.pictures.image_files import Picture
from gpubranches.catalog.pictures.memory import MemoryBudget
from gpubranches.core import stores
from gpubranches.errors import BackendUnavailableError, DataError, StoreError, UsageError, first_line

Source = str | Path | Picture
"""Input of the decoder: a file, or a picture that may be a part of a file."""
MAX_SIDE = 65_535
"""Longest side of a picture that is decoded, in pixels: the limit of the JPEG format."""
MAX_PIXELS = 100_000_000
"""Largest picture that is decoded, in pixels; of a larger one only the header is read."""
UPLOAD_PIXELS = 50_000_000
"""Largest uploaded picture that is decoded, in pixels."""
WHOLE_PIXELS = 25_000_000
"""Largest picture that is kept at full size, in pixels; a larger one is decoded at a fraction of its sides."""
PIXELS = MemoryBudget(1_000_000_000)
"""Memory for decoding, shared by all threads; the costliest JPEG of 100 million pixels needs nine tenths of it."""
FILES = MemoryBudget(400_000_000)
"""Memory for the bytes that are read from files to identify pictures, shared by all threads."""
_STRIP_PIXELS = 1 << 20
"""Pixels of a strip, the part of a picture that is reduced or converted to opaque RGB at a time."""
_STRIP_PIXEL_BYTES = 32
"""Most bytes that a pixel of a strip needs in all its forms together."""
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow's memory, by mode; 4 in all other modes, RGB included."""
_DECODED_PIXEL_BYTES = {"WEBP": 16, "AVIF": 16, "HEIF": 16, "JXL": 16}
"""Bytes per pixel of formats whose decoders keep the whole picture in memory.

They include the decoder's planes or canvases, its output, and Pillow's picture. JPEG XL is without extra channels; the
measured values are 9 to 12.
"""
_EXTRA_CHANNEL_BYTES = 8
"""Bytes of a pixel of an extra channel of JPEG XL."""
_COEFFICIENT_BYTES = 2
_READ_TWICE = ("WEBP", "AVIF", "HEIF", "JXL")
"""Formats whose decoder gets a copy of the bytes of the file."""
_STRIP_TAGS = {"width": 322, "height": 323, "rows": 278, "samples": 277, "bits": 258}
"""Tags of a TIFF with the size of a tile or strip, which its decoder keeps as a whole."""
_DECODING = "decoding the picture"
_ORIENTATION = 0x0112
"""The EXIF tag of the orientation of a picture; values 5 to 8 swap width and height."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(data: bytes, *, max_pixels: int = UPLOAD_PIXELS) -> Image.Image:
    """Decode an uploaded picture as `decoded_upload` does, and release its memory budget."""
    with decoded_upload(data, max_pixels=max_pixels) as image:
        return image


@contextmanager
def decoded_upload(data: bytes, *, max_pixels: int = UPLOAD_PIXELS) -> Iterator[Image.Image]:
    """Decode an uploaded picture of `UPLOADS` as `decoded_file` does. Raises UsageError for an invalid one."""
    if not data:
        raise UsageError("image: expected the bytes of a picture, got none").because("picture-unreadable")
    with ExitStack() as held:
        try:
            image = held.enter_context(decoded_file(io.BytesIO(data), "image", max_pixels=max_pixels, formats=UPLOADS))
        except DataError as error:
            raise UsageError(f"{error}; send a JPEG, PNG, WebP or GIF").because("picture-unreadable") from error
        yield image


def open_image(path: Source, *, max_pixels: int = MAX_PIXELS, side: int | None = None) -> Image.Image:
    """Decode a picture on disk as `decoded_path` does, and release its memory budget."""
    with decoded_path(path, max_pixels=max_pixels, side=side) as image:
        return image


@contextmanager
def decoded_path(path: Source, *, max_pixels: int = MAX_PIXELS, side: int | None = None) -> Iterator[Image.Image]:
    """Decode a picture on disk as `decoded_file` does. Raises DataError for a missing file, too."""
    with ExitStack() as held:
        try:
            place = path.path if isinstance(path, Picture) else path
            if not stores.is_url(place) and not stat.S_ISREG(os.stat(place).st_mode):
                raise DataError(f"{path}: cannot decode: not a file")
            with _opened(path) as file:
                image = held.enter_context(decoded_file(file, str(path), max_pixels=max_pixels, side=side))
        except (BackendUnavailableError, OSError) as error:
            raise DataError(f"{path}: cannot decode: {error}") from error
        yield image


@contextmanager
def decoded_file(
    file: IO[bytes],
    name: str,
    *,
    max_pixels: int = MAX_PIXELS,
    side: int | None = None,
    formats: Collection[str] = tuple(FORMATS),
) -> Iterator[Image.Image]:
    """Decode an open file: the first frame, upright by its EXIF orientation, RGB, transparency on white.

    A picture of more than `WHOLE_PIXELS` pixels is reduced to a half, a third and so on of its sides. side: the length
    in pixels that the longer side needs at least; a large JPEG is then decoded at a smaller size, which is faster.
    Until the block ends, the picture and one copy of it count in the memory budget that all threads share; a thread
    waits until enough of it is free. formats: some of `FORMATS`. Raises DataError with a short reason and `name` for an
    empty, broken, truncated or too large file, for another format, and for one whose package is missing.
    """
    with ExitStack() as held:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # unusual but harmless metadata; the size is checked below
                kind = _require_format(file, name, formats)
                _hold_file(file, name, kind, held)
                if kind == "JXL":  # the decoder of JPEG XL decodes the file when it is opened
                    _hold_jxl(file, name, max_pixels, held)
                with Image.open(file, formats=(kind,)) as image:
                    _require_size(image.size, name, max_pixels)
                    whole = image.size
                    _draft(image, side)
                    if kind != "JXL":
                        held.enter_context(PIXELS.share(_bytes_to_decode(image, whole), name, _DECODING))
                    image.load()
                    flat, turn = _reduced(image), None if kind == "JXL" else _TURNS.get(_orientation(image))
            upright = flat if turn is None else flat.transpose(turn)
        except UnidentifiedImageError as error:
            raise DataError(f"{name}: not a picture of a known format ({', '.join(formats)})") from error
        except (DataError, StoreError):
            raise
        except BackendUnavailableError as error:
            raise DataError(f"{name}: {error}") from error
        except Exception as error:  # Pillow's decoders raise many exception types for broken files
            raise DataError(f"{name}: cannot decode: {first_line(error)}") from error
        del flat
        yield upright


def _require_format(file: IO[bytes], name: str, formats: Collection[str]) -> str:
    """Return the format of a file. Raises DataError for an empty file or another format."""
    if not file.seek(0, os.SEEK_END):
        raise DataError(f"{name}: the file is empty")
    kind = format_of(file)
    if kind is None or kind not in formats:
        raise DataError(f"{name}: not a picture of a known format ({', '.join(formats)})")
    register(kind)
    return kind


def _hold_file(file: IO[bytes], name: str, kind: str, held: ExitStack) -> None:
    """Hold the memory for the bytes that are read from a file until `held` is closed."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    held.enter_context(FILES.share(2 * size if kind in _READ_TWICE else size, name, "reading the file"))


def _hold_jxl(file: IO[bytes], name: str, max_pixels: int, held: ExitStack) -> None:
    """Check the size of a JPEG XL by its header, and reserve the memory for decoding it."""
    header = jxl.read_header(file, name)
    _require_size(header.size, name, max_pixels)
    width, height = header.size
    taken = width * height * (_DECODED_PIXEL_BYTES["JXL"] + _EXTRA_CHANNEL_BYTES * header.extra)
    held.enter_context(PIXELS.share(taken + _bytes_of_result(width, height), name, _DECODING))


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(_ORIENTATION, 1))


def _require_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if max(size) > MAX_SIDE:
        raise DataError(f"{name}: {width} x {height} has a side of more than {MAX_SIDE:,} pixels")
    if width * height > max_pixels:
        raise DataError(f"{name}: {width} x {height} is over {max_pixels:,} pixels")


def _draft(image: Image.Image, side: int | None) -> None:
    """Set a large JPEG to be decoded at 1/2, 1/4 or 1/8 of its sides; no other format supports this."""
    if side is not None and side < max(image.size):
        image.draft(None, (side, side))
    elif (parts := _parts(image.width, image.height)) > 1:
        image.draft(None, (image.width // parts, image.height // parts))


def _parts(width: int, height: int) -> int:
    """Return the divisor of a picture's sides that leaves at most `WHOLE_PIXELS` pixels."""
    return math.ceil(math.sqrt(width * height / WHOLE_PIXELS))


def _reduced(image: Image.Image) -> Image.Image:
    """Return a decoded picture as RGB, and a large one at a reduced size; works in strips, without a full copy."""
    parts, top = _parts(image.width, image.height), _top(image)
    if parts == 1 and image.mode == "RGB" and "transparency" not in image.info:
        return image.convert("RGB")
    size = (math.ceil(image.width / parts), math.ceil(image.height / parts))
    small, rows = Image.new("RGB", size), max(1, _STRIP_PIXELS // (image.width * parts)) * parts
    for start in range(0, image.height, rows):
        strip = image.crop((0, start, image.width, min(start + rows, image.height)))
        small.paste(_rgb(strip, top).reduce(parts), (0, start // parts))
    return small


def _top(image: Image.Image) -> float:
    """Return the value of white in a picture of integers or floats."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return 255.0
    rows = max(1, _STRIP_PIXELS // image.width)
    starts = range(0, image.height, rows)
    strips = (image.crop((0, start, image.width, min(start + rows, image.height))) for start in starts)
    largest = max(float(np.asarray(strip).max(initial=0)) for strip in strips)
    return 65535.0 if largest > 255 else 255.0


def _rgb(image: Image.Image, top: float) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.clip(np.asarray(image).astype(np.float64) * (255 / top), 0, 255)
        return Image.fromarray(grey.astype(np.uint8), "L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def _bytes_to_decode(image: Image.Image, whole: tuple[int, int]) -> int:
    """Return the most bytes that decoding needs: the picture, the memory of its decoder, strips, the result twice.

    image: opened, with the size at which it is decoded; whole: the size in the file, (width, height).
    """
    pixels = image.width * image.height
    taken = pixels * _PIXEL_BYTES.get(image.mode, 4)
    if image.format in _DECODED_PIXEL_BYTES:
        taken = pixels * _DECODED_PIXEL_BYTES[image.format]
    elif isinstance(image, TiffImageFile):
        taken = taken * (1 if image.tag_v2.get(_ORIENTATION, 1) == 1 else 2) + _strip_bytes(image)
    elif image.format == "GIF":
        taken *= 2
    elif isinstance(image, JpegImageFile) and _in_scans(image):
        taken += _COEFFICIENT_BYTES * _samples(image, whole)
    return taken + _bytes_of_result(image.width, image.height)


def _bytes_of_result(width: int, height: int) -> int:
    """Return the bytes of strips and of the result twice for a decoded picture of this size."""
    parts = _parts(width, height)
    results = 2 * 4 * math.ceil(width / parts) * math.ceil(height / parts)
    return results + _STRIP_PIXEL_BYTES * max(min(width * height, _STRIP_PIXELS), width * parts)


def _strip_bytes(image: TiffImageFile) -> int:
    """Return the bytes of a tile or strip of a TIFF, which may be larger than the picture."""
    tags = {name: image.tag_v2.get(tag) for name, tag in _STRIP_TAGS.items()}
    bits = tags["bits"]
    sample_bytes = max(bits if isinstance(bits, tuple) else (bits or 1,)) / 8 * (tags["samples"] or 1)
    if tags["width"] and tags["height"]:
        return int(tags["width"] * tags["height"] * sample_bytes)
    return int(image.width * min(tags["rows"] or image.height, image.height) * sample_bytes)


def _in_scans(image: JpegImageFile) -> bool:
    """Return whether a JPEG has several scans; its decoder then keeps all coefficients, at any size.

    The file position is behind the header of the first scan, which says how many components are in it.
    """
    file = image.fp
    if image.info.get("progressive") or file is None:
        return True
    end = file.tell()
    file.seek(max(0, end - 16))
    header = file.read(min(end, 16))
    file.seek(end)
    counts = [count for count in range(1, 5) if header[-8 - 2 * count :].startswith(_scan(count))]
    return not counts or counts[0] < image.layers


def _scan(components: int) -> bytes:
    """Return the first bytes of the header of a scan with this number of components."""
    return bytes((0xFF, 0xDA, 0, 6 + 2 * components, components))


def _samples(image: JpegImageFile, whole: tuple[int, int]) -> int:
    """Return the number of samples of all components of a JPEG, with padded blocks at the edges."""
    across, down = (max((layer[at] for layer in image.layer), default=1) for at in (1, 2))
    width, height = (math.ceil(side / (8 * most)) * 8 * most for side, most in zip(whole, (across, down), strict=True))
    return sum(width * height * layer[1] * layer[2] // (across * down) for layer in image.layer)


def _opened(path: Source) -> IO[bytes]:
    return path.open() if isinstance(path, Picture) else open(path, "rb")


def _is_frame(path: Source) -> TypeGuard[Picture]:
    return isinstance(path, Picture) and path.seconds is not None


def picture_format(path: Source) -> str:
    """Return the format of a picture, a key of `FORMATS`, by its first bytes. Raises DataError like `upright_size`."""
    if _is_frame(path):
        return "BMP"
    with _opened_header(path) as (kind, _, _):
        return kind


def upright_size(path: Source) -> tuple[int, int]:
    """Return width and height of the upright picture in pixels, from its header alone.

    A frame of a video has the size of the first one, so that a page of frames does not decode each of them. Raises
    DataError if the header cannot be read or its format is not in `FORMATS`.
    """
    if _is_frame(path):
        with _reading_header(path):
            return frame_size(path.path)
    with _opened_header(path) as (kind, file, held):
        if kind == "JXL":
            return jxl.read_header(file, str(path)).upright
        _hold_file(file, str(path), kind, held)
        with Image.open(file, formats=(kind,)) as image:
            if image.format == "PNG" and "exif" not in image.info:
                image.info["exif"] = _late_exif(file)
            turned = kind != "TIFF" and _orientation(image) in (5, 6, 7, 8)  # the size of a TIFF is that upright
            return (image.height, image.width) if turned else image.size


@contextmanager
def _opened_header(path: Source) -> Iterator[tuple[str, IO[bytes], ExitStack]]:
    """Open a picture; yield its format, its file, and the objects to close. Raises DataError like `_reading_header`."""
    with _reading_header(path), warnings.catch_warnings(), _opened(path) as file, ExitStack() as held:
        warnings.simplefilter("ignore")
        yield _require_format(file, str(path), tuple(FORMATS)), file, held


@contextmanager
def _reading_header(path: Source) -> Iterator[None]:
    """Convert errors in the block to a DataError about the header."""
    try:
        yield
    except (DataError, StoreError):
        raise
    except Exception as error:  # Pillow's readers raise many kinds for broken files
        raise DataError(f"{path}: cannot read the header: {type(error).__name__}") from error


def _late_exif(file: IO[bytes]) -> bytes:
    """Return the EXIF that a PNG may have behind its pixels, or b""; Pillow would decode the pixels to find it."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4])
        if head[4:] == b"eXIf":
            return b"Exif\0\0" + file.read(length)
        file.seek(length + 4, os.SEEK_CUR)
    return b""
