"""The pictures of matched items, best first: as a list of images in COCO's format, and as symbolic links."""

from __future__ import annotations

import itertools
import json
import os
import re
import tarfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath

from gpubranches.catalog.metadata.columns import url_of
from gpubranches.catalog.pictures.formats import FORMATS
from gpubranches.catalog.pictures.image_files import Picture, present_path
from gpubranches.core.files import escaped_path, unescaped_path
from gpubranches.errors import DataError, UsageError
from gpubranches.service.export.csv_and_json import joined
from gpubranches.service.export.item_table import ItemTable, Row

_FOLDER = "matches"
_NAME_BYTES = 120
_BLOCK_BYTES = 512


def can_have_pictures(table: ItemTable) -> bool:
    """Return whether the catalog has folders with pictures of its items."""
    return bool(table.source.get("roots")) and "image_path" in table.columns


def write_coco(table: ItemTable) -> Generator[bytes, None, int]:
    """Return a generator of a JSON object in COCO's format, without annotations; it returns the number of images.

    images: id, file_name, width, height, and coco_url if the item has a url. file_name is relative to the ingested
    folder, or absolute if there were several; for a picture in a larger file, its name in that file follows. Sizes are
    those of the columns `width` and `height`, else those of the file, upright. Items without a picture of known size
    are left out; `info` has their number. Raises UsageError if no item can have a picture.
    """
    require_pictures(table, "coco")
    return _coco(table)


def write_links(table: ItemTable) -> Generator[bytes, None, int]:
    """Return a generator of a tar file with the content of `link_folder`; it returns the number of links."""
    require_pictures(table, "links")
    return _tar(table)


def link_folder(table: ItemTable, folder: Path) -> int:
    """Fill a folder with symbolic links to the pictures; return their number.

    A link is named by rank, id and file name, so that names sort best first and are unique. Letters, digits, `.` and
    `-` of the file name are kept; other characters become `_`. Items without a picture, or with one inside a larger
    file or in a store, are left out. Raises UsageError if no item can have one.
    """
    require_pictures(table, "links")
    written = 0
    for part in _links(table):
        for name, target in part:
            (folder / name).symlink_to(target)
        written += len(part)
    return written


def require_pictures(table: ItemTable, format: str) -> None:
    """Raise UsageError if no item of a table can have a picture. format: the export format, for the message."""
    if not can_have_pictures(table):
        raise UsageError(
            f"{format}: expected a catalog of pictures in a folder, by the column `image_path`, got none; choose csv, "
            "json or parquet"
        ).because("export-no-pictures")


def _coco(table: ItemTable) -> Generator[bytes, None, int]:
    seen = 0

    def images() -> Iterator[list[Row]]:
        nonlocal seen
        for rows in table.parts():
            seen += len(rows)
            yield [image for row in rows if (image := _image(table, row)) is not None]

    yield b'{"licenses": [], "categories": [], "annotations": [], "images": ['
    written = yield from joined(images())
    info = {"description": "items that match, best first", "images": written, "left_out": seen - written}
    yield f'\n], "info": {json.dumps(info)}}}\n'.encode()
    return written


def _image(table: ItemTable, item: Row) -> Row | None:
    from gpubranches.catalog.pictures.decoding import upright_size
    from gpubranches.catalog.pictures.image_files import picture_of

    picture = picture_of(table.source, item)
    if picture is None:
        return None
    width, height = item.get("width"), item.get("height")
    if not (_is_size(width) and _is_size(height)):
        try:
            width, height = upright_size(picture)
        except DataError:
            return None
    name = _file_name(table, item, picture)
    name = name if picture.is_file else f"{name}/{picture.name}"
    image = {"id": item["id"], "file_name": name, "width": width, "height": height}
    url = url_of(item)
    return image if url is None else {**image, "coco_url": url}


def _file_name(table: ItemTable, item: Row, picture: Picture) -> str:
    """Return the name of a picture's file: where it is now, relative to the folder if there is one."""
    roots = list(table.source["roots"].values())
    if isinstance(picture.path, str):
        return escaped_path(picture.path)
    if len(roots) == 1:
        folder = os.path.realpath(present_path(table.source, roots[0]))
        if os.path.realpath(os.path.join(folder, unescaped_path(item["image_path"]))) == str(picture.path):
            return str(item["image_path"])
        if picture.path.is_relative_to(folder):
            return escaped_path(str(picture.path.relative_to(folder)))
    return escaped_path(str(picture.path))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _links(table: ItemTable) -> Iterator[list[tuple[str, Path]]]:
    """Yield lists of pairs: the name of a link and its target."""
    from gpubranches.catalog.pictures.image_files import picture_of

    digits = len(str(len(table)))
    ranks = itertools.count(1)
    for rows in table.parts():
        part = []
        for row, rank in zip(rows, ranks, strict=False):
            picture = picture_of(table.source, row)
            if picture is not None and picture.is_file and isinstance(picture.path, Path):
                part.append((picture_name(rank, digits, row, picture), picture.path))
        yield part


def picture_name(rank: int, digits: int, item: Row, picture: Picture) -> str:
    """Return a name by rank, id and name of the picture, so that names sort best first and are unique."""
    return f"{rank:0{digits}d}_{item['id']}_{safe_name(picture.name)}"


def safe_name(path: str) -> str:
    """Return the end of a file's name, without characters that mean something to a shell, a path or a terminal."""
    name = re.sub(r"[^\w.-]+", "_", PurePosixPath(path).name)
    return name.encode()[-_NAME_BYTES:].decode("utf-8", "ignore")


def with_ending(name: str, format: str) -> str:
    """Return the name of a picture with the ending of its format, a key of `FORMATS`."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in FORMATS[format]:
        return name
    known = any(suffix in endings for endings in FORMATS.values())
    return f"{PurePosixPath(name).stem if known else name}{FORMATS[format][0]}"


def _tar(table: ItemTable) -> Generator[bytes, None, int]:
    now_s, written = int(time.time()), 0
    yield _entry(_FOLDER, tarfile.DIRTYPE, 0o755, now_s)
    for part in _links(table):
        yield b"".join(_entry(f"{_FOLDER}/{name}", tarfile.SYMTYPE, 0o777, now_s, path) for name, path in part)
        written += len(part)
    yield bytes(2 * _BLOCK_BYTES)
    return written


def _entry(name: str, kind: bytes, mode: int, mtime_s: int, target: Path | None = None) -> bytes:
    """Return the tar header of an entry without content. A `tarfile.TarFile` would keep a list of all entries."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, mtime_s
    info.linkname = "" if target is None else str(target)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
