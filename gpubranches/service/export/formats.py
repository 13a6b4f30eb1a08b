"""The table of formats that the page, the API and the command line offer."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from gpubranches.catalog.metadata.columns import IMAGE_SECONDS
from gpubranches.core.boxes import Boxes
from gpubranches.core.files import atomic_file, atomic_folder, require_outside_catalogs
from gpubranches.errors import UsageError
from gpubranches.service.export.boxes import boxes_json, boxes_sql
from gpubranches.service.export.csv_and_json import write_csv, write_json, write_jsonl
from gpubranches.service.export.intervals import write_intervals
from gpubranches.service.export.item_table import ItemTable
from gpubranches.service.export.parquet import write_img2dataset, write_parquet
from gpubranches.service.export.pictures import link_folder, write_coco, write_links
from gpubranches.service.export.zip_file import write_zip

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

Written = TypeVar("Written")
ItemWriter = Callable[[ItemTable], Generator[bytes, None, int]]
"""A generator of a file's bytes, which returns the number of items in it."""
BoxWriter = Callable[[Boxes, int], bytes]
"""Returns the bytes of a file of boxes; the integer is the number of votes that an item needs."""


@dataclass(frozen=True)
class Format(Generic[Written]):
    """A format.

    ending: of its files, without the first dot; write: returns a generator of a file's bytes; folder: a function that
    fills a folder instead, or None; column: a column of the catalog that the format needs, or "".
    """

    ending: str
    media_type: str
    write: Written
    folder: Callable[[ItemTable, Path], int] | None = None
    column: str = ""


_NAME_LENGTH = 60
_JSON, _PARQUET = "application/json", "application/vnd.apache.parquet"
FORMATS: dict[str, Format[ItemWriter]] = {
    "csv": Format("csv", "text/csv", write_csv),
    "parquet": Format("parquet", _PARQUET, write_parquet),
    "json": Format("json", _JSON, write_json),
    "jsonl": Format("jsonl", "application/jsonl", write_jsonl),
    "coco": Format("coco.json", _JSON, write_coco),
    "img2dataset": Format("img2dataset.parquet", _PARQUET, write_img2dataset),
    "intervals": Format("intervals.csv", "text/csv", write_intervals, column=IMAGE_SECONDS),
    "links": Format("tar", "application/x-tar", write_links, link_folder),
    "zip": Format("zip", "application/zip", write_zip),
}
BOX_FORMATS: dict[str, Format[BoxWriter]] = {
    "sql": Format("sql", "application/sql", boxes_sql),
    "json": Format("json", _JSON, boxes_json),
}


def formats_of(catalog: Catalog) -> dict[str, Format[ItemWriter]]:
    """Return the formats in which the items of a catalog can be exported."""
    return {name: format for name, format in FORMATS.items() if not format.column or format.column in catalog.columns}


def export_items(table: ItemTable, path: Path, format: str | None = None) -> int:
    """Write a file, or for "links" a folder unless the name ends in .tar; return the number of items in it.

    format: a key of `FORMATS`; None takes it from the ending. Files and folders are written completely or not at all.
    Raises UsageError for another format, for one that needs pictures which these items lack, for a path within a
    catalog, and for a folder that exists; DataError if it cannot be written, and then an older file is unchanged.
    """
    chosen = format_of(path, format)
    require_outside_catalogs(path)
    if chosen.folder is not None and not _ends(path, chosen):
        with atomic_folder(path) as folder:
            return chosen.folder(table, folder)
    chunks = chosen.write(table)
    with atomic_file(path) as file:
        while True:
            try:
                file.write(next(chunks))
            except StopIteration as end:
                return int(end.value)


def format_of(path: Path, name: str | None = None) -> Format[ItemWriter]:
    """Return the format with a name, or the one with the longest ending that fits a path. Raises UsageError."""
    if name is not None:
        if name not in FORMATS:
            raise UsageError(f"export: expected one of {', '.join(FORMATS)}, got {name!r}")
        return FORMATS[name]
    fitting = [format for format in FORMATS.values() if _ends(path, format)]
    if not fitting:
        endings = ", ".join(f".{format.ending}" for format in FORMATS.values())
        raise UsageError(
            f"export: expected a name that ends in one of {endings}, got {path.name!r}; or name the format"
        )
    return max(fitting, key=lambda format: len(format.ending))


def file_name(query: str, part: str, count: int) -> str:
    """Return the name of an exported file, without its ending: the query, the part unless it is "all", the count."""
    words = "-".join(re.findall(r"[^\W_]+", query.lower()))[:_NAME_LENGTH].strip("-")
    return "-".join([words or "matches", *([] if part == "all" else [part]), str(count)])


def _ends(path: Path, format: Format[ItemWriter]) -> bool:
    return path.name.lower().endswith(f".{format.ending}")
