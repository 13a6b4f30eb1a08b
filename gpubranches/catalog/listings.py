"""The listings of ingested files, `inputs-G.parquet`: their columns and the checks of a listing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpubranches.catalog.manifest import listings
from gpubranches.catalog.storage import RESTORE, read_content
from gpubranches.errors import CatalogFormatError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

DIGEST_BYTES = 16
"""The number of bytes of a SHA-256, its first ones, that are used as the digest of a file's content."""


def listing_schema() -> pa.Schema:
    """Return the columns that docs/format.md describes."""
    import pyarrow as pa

    return pa.schema(
        [
            ("place", pa.string()),
            ("beside", pa.bool_()),
            ("size", pa.int64()),
            ("mtime_ns", pa.int64()),
            ("ctime_ns", pa.int64()),
            ("digest", pa.binary(DIGEST_BYTES)),
            ("first", pa.int64()),
            ("start", pa.int64()),
            ("rows", pa.int64()),
        ]
    )


def read_listing(path: Path, entry: dict[str, Any]) -> pa.Table:
    """Return a listing, one row per file. entry: its entry in the manifest.

    Raises CatalogFormatError if the file is damaged or is not a valid listing.
    """
    import pyarrow as pa

    from gpubranches.catalog.metadata.tables import read_parquet

    content = read_content(path, entry)
    try:
        table = read_parquet(pa.BufferReader(content)).cast(listing_schema())
        if any(table[name].null_count for name in table.column_names if name != "digest"):
            raise ValueError("a value is missing")
        if len(table) and table["beside"][0].as_py():
            raise ValueError("the first row is not one of a file")
    except (OSError, pa.ArrowException, ValueError) as error:
        raise CatalogFormatError(f"{path}: expected a list of inputs: {first_line(error)}; {RESTORE}") from error
    return table


def write_listing(table: pa.Table) -> bytes:
    """Return the content of a listing, a table of one row per file with the columns of `listing_schema`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="zstd")
    return bytes(out.getvalue())


def listing_problems(path: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """Return the problem of each damaged listing that a manifest names, by name, one line each."""
    found = {}
    for name, entry in listings(manifest).items():
        try:
            read_listing(path / name, entry)
        except CatalogFormatError as error:
            found[name] = str(error).removesuffix(f"; {RESTORE}")
    return found
