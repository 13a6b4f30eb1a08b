"""The pictures of matched items as a ZIP file that is made while it is sent, and how large it will be."""

from __future__ import annotations

import itertools
import math
import os
import time
import zipfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from gpubranches.catalog.pictures.decoding import picture_format, upright_size
from gpubranches.catalog.pictures.image_files import Picture, picture_of
from gpubranches.core import stores
from gpubranches.errors import DataError, StoreError, UsageError
from gpubranches.service.export.item_table import ItemTable, Row
from gpubranches.service.export.parquet import Outflow
from gpubranches.service.export.pictures import can_have_pictures, picture_name, require_pictures, with_ending

MOST_PICTURES = 100_000
"""Items of one ZIP file: its index is held in memory until the end, some hundred bytes an entry."""
LEFT_OUT = "left-out.txt"
"""The entry that lists the items without a picture that can be read; only there if there are any."""
_CHUNK_BYTES = 1 << 20
_ENTRY_BYTES = 300
"""The approximate size of the headers of an entry."""
_LOOKED_AT = 200
"""Files whose sizes are looked up for an estimate."""
_FIRST, _LAST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
"""The earliest and the latest time of a file in a ZIP."""


@dataclass(frozen=True)
class ZipEstimate:
    """The approximate size of a ZIP of pictures: pictures and bytes. most: the largest number of pictures."""

    pictures: int
    bytes: int
    most: int = MOST_PICTURES


def estimate_zip(table: ItemTable) -> ZipEstimate:
    """Return how large a ZIP file of the pictures of a table would be, by the sizes of up to 200 files of it."""
    if not can_have_pictures(table) or not len(table):
        return ZipEstimate(0, 0)
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), _LOOKED_AT)).astype(np.intp))
    looked_at, sizes = 0, []
    for item in itertools.chain.from_iterable(table.take(rows).parts()):
        looked_at += 1
        picture = picture_of(table.source, item)
        if picture is not None:
            sizes.append(_size(picture) + _ENTRY_BYTES)
    share = len(sizes) / max(1, looked_at)
    pictures = round(share * len(table))
    return ZipEstimate(pictures, round(pictures * float(np.mean(sizes))) if sizes else 0)


def write_zip(table: ItemTable) -> Generator[bytes, None, int]:
    """Return a generator of a ZIP file of the pictures, as they are on the disk; it returns their number.

    A picture is named by rank, id and file name, in the folder `matches`. Items without a picture, and files that are
    no picture of a known format, are left out; `left-out.txt` lists each with its reason. A chunk holds at most a
    megabyte of a picture. Raises UsageError if no item can have a picture, and for more than `MOST_PICTURES` items.
    """
    require_pictures(table, "zip")
    if len(table) > MOST_PICTURES:
        raise UsageError(
            f"zip: expected at most {MOST_PICTURES:,} items, got {len(table):,}; choose a tier, or links, which have "
            "no such limit"
        ).because("zip-too-large", most=MOST_PICTURES, count=len(table))
    return _zip(table)


def _zip(table: ItemTable) -> Generator[bytes, None, int]:
    out, digits, ranks = Outflow(), len(str(len(table))), itertools.count(1)
    written, left_out = 0, []
    # Pictures are compressed already. The stream cannot seek, so the size of an entry is written after its content.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for item, rank in zip(itertools.chain.from_iterable(table.parts()), ranks, strict=False):
            picture = picture_of(table.source, item)
            try:
                if picture is None:
                    raise DataError("there is no file of its picture")
                file, info = _opened(picture, picture_name(rank, digits, item, picture))
            except DataError as error:
                left_out.append(_told(item, str(error)))
                continue
            with file, archive.open(info, "w", force_zip64=info.file_size >= zipfile.ZIP64_LIMIT) as entry:
                try:
                    for chunk in _chunks(file, info.file_size):
                        entry.write(chunk)
                        yield out.take()
                    written += 1
                except (OSError, DataError, StoreError) as error:
                    reason = getattr(error, "strerror", None) or error
                    left_out.append(_told(item, f"the copy is incomplete, because reading failed: {reason}"))
            yield out.take()
        if left_out:
            archive.writestr(zipfile.ZipInfo(LEFT_OUT), "".join(left_out))
    yield out.take()
    return written


def _chunks(file: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    """Yield the first bytes of a file, even if the file grows during the export."""
    while size_bytes > 0 and (chunk := file.read(min(_CHUNK_BYTES, size_bytes))):
        size_bytes -= len(chunk)
        yield chunk


def _size(picture: Picture) -> int:
    """Return the bytes of a picture, 0 if it cannot be read. A frame of a video becomes a BMP file."""
    try:
        if picture.is_file:
            return stores.stat(picture.path).size if isinstance(picture.path, str) else picture.path.stat().st_size
        if picture.seconds is not None:
            width, height = upright_size(picture)
            return height * 4 * math.ceil(3 * width / 4)  # rows are padded to 4 bytes
        with picture.open() as file:
            return file.seek(0, os.SEEK_END)
    except (DataError, StoreError, OSError):
        return 0


def _opened(picture: Picture, name: str) -> tuple[IO[bytes], zipfile.ZipInfo]:
    """Open a picture for an entry. Raises DataError with the reason, without the path of the file."""
    try:
        upright_size(picture)
        name = with_ending(name, picture_format(picture))
        path = picture.path
        mtime_s = stores.stat(path).mtime_ns / 1e9 if isinstance(path, str) else os.stat(path).st_mtime
        file = picture.open()
    except (DataError, StoreError, OSError) as error:
        raise DataError(str(error).removeprefix(f"{picture}: ")) from error
    when = min(max(time.gmtime(mtime_s)[:6], _FIRST), _LAST)
    info = zipfile.ZipInfo(f"matches/{name}", when)
    info.file_size = file.seek(0, os.SEEK_END)
    file.seek(0)
    info.external_attr = 0o644 << 16
    return file, info


def _told(item: Row, reason: str) -> str:
    """Return a line about an item that was left out: its id, the name of its picture and the reason, with tabs."""
    parts = (str(item["id"]), str(item.get("image_path") or ""), reason)
    return "\t".join(" ".join(part.split()) for part in parts) + "\n"
