"""The formats of pictures: their endings, which of them need a package, and how a file of each is recognised."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from functools import cache
from typing import IO

from gpubranches.errors import BackendUnavailableError, missing_package

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JXL": (".jxl",),
}
"""The formats that are decoded, and the endings of picture files. The format is that of the content, not of the name.

Pillow supports many more formats. Their decoders are reviewed less, and that of EPS starts another program.
"""
UPLOADS = ("JPEG", "PNG", "WEBP", "GIF")
"""The formats that an upload may have: those that browsers send and whose decoders are the best reviewed."""
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
PACKAGES = {"HEIF": ("pillow_heif", "pillow-heif"), "JXL": ("pillow_jxl", "pillow-jxl-plugin")}
"""Formats that Pillow decodes with another package: the module, and the package that has it."""
_HEAD_BYTES = 64
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"\xff\x0a": "JXL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JXL",
}
"""The first bytes of files, with their format."""
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}


def format_of(file: IO[bytes]) -> str | None:
    """Return the format of an open file by its first bytes, or None; afterwards the position is the beginning."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4]), len(head))
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}
        return "AVIF" if brands & _AVIF_BRANDS else "HEIF" if brands & _HEIF_BRANDS else None
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def is_picture(path: str) -> bool:
    """Return whether a file is a picture of `FORMATS` by its first bytes; False for an unreadable file."""
    try:
        with open(path, "rb") as file:
            return format_of(file) is not None
    except OSError:
        return False


@cache
def is_decodable(name: str) -> bool:
    """Return whether the package that a format needs is installed."""
    return name not in PACKAGES or importlib.util.find_spec(PACKAGES[name][0]) is not None


def undecodable(endings: Iterable[str]) -> dict[str, str]:
    """Return the given endings whose format needs a missing package, with the name of the package."""
    lacking = [name for name in PACKAGES if not is_decodable(name)]
    return {ending: PACKAGES[name][1] for name in lacking for ending in FORMATS[name] if ending in endings}


def missing_format(name: str) -> BackendUnavailableError:
    """Return the error of a format whose package is missing."""
    return missing_package(f"a picture of the format {name}", PACKAGES[name][1], "formats")


@cache
def register(name: str) -> None:
    """Make Pillow decode a format. Raises BackendUnavailableError if its package is missing.

    One thread decodes a picture, since several pictures are decoded at a time.
    """
    try:
        if name == "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
        elif name == "JXL":
            from pillow_jxl import JpegXLImagePlugin

            JpegXLImagePlugin.DECODE_THREADS = 0
    except ImportError as error:
        raise missing_format(name) from error


def ending_of(name: str) -> str:
    """Return the ending of a file's name in lower case, "" for none."""
    return os.path.splitext(name)[1].lower()
