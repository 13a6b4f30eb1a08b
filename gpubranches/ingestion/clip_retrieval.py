"""The clip-retrieval folder: partitions of embeddings, each with a partition of metadata that may name pictures."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.metadata.columns import IMAGE_PATH, renamed_columns, repeated_column
from gpubranches.catalog.row_source import Kind
from gpubranches.errors import CatalogFormatError, first_line
from gpubranches.ingestion.array_file import ArrayFile
from gpubranches.ingestion.picture_roots import find_root, named_paths

if TYPE_CHECKING:
    import pyarrow as pa


class ClipRetrieval:
    """A clip-retrieval folder: img_emb/img_emb_K.npy with metadata/metadata_K.parquet, whose rows correspond.

    Partitions are in numeric order. Pictures are found by the column `image_path`, in the folder `pictures`. By default
    they are searched for in three places, and the place with most of them is used: relative to the folder itself,
    relative to the working directory, or at their absolute paths. The last two places are tried only if all names are
    of that kind, so that a few names cannot make a folder readable. moves: the new place of the folder of absolute
    names, if it moved; notes: messages for the user, one sentence each.
    """

    kind: Kind = "embeddings"

    def __init__(self, folder: Path, pictures: str | Path | None = None):
        """Map all partitions. Raises CatalogFormatError with the names of files that do not match."""
        arrays = sorted((folder / "img_emb").glob("img_emb_*.npy"), key=lambda path: (_number(path), path.name))
        if not arrays:
            raise CatalogFormatError(f"{folder}: expected img_emb/img_emb_0.npy and so on, found none")
        self.folder = folder
        self._parts = [ArrayFile.open(path) for path in arrays]
        self._tables = _beside(arrays, folder / "metadata")
        self.dim = self._parts[0].dim
        columns = [self._checked(part, table) for part, table in zip(self._parts, self._tables, strict=True)]
        self._kept = renamed_columns(name for names in columns for name in names)
        self._starts = np.cumsum([0, *(part.n for part in self._parts)])
        self.n = int(self._starts[-1])
        notes = [
            f"{folder}: the column `{name}` is kept as `{kept}`, because the program has its own column of that name"
            for name, kept in self._kept.items()
        ]
        notes += self._unpaired()
        self.roots: dict[str, str] = {}
        self.moves: tuple[tuple[str, str], ...] = ()
        if any(IMAGE_PATH in names for names in columns):
            named = [functools.partial(_paths, table) for table in self._tables if table is not None]
            root = find_root(str(folder), os.path.realpath(folder), named, pictures)
            self.roots, self.moves, notes = {"": root.folder}, root.moves, [*notes, *root.notes]
        self.notes = tuple(notes)

    def partitions(self) -> Iterator[tuple[ArrayFile, Path | None]]:
        """Yield the embeddings of each partition and the file of its metadata, None where there is none."""
        yield from zip(self._parts, self._tables, strict=True)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim)."""
        owner = np.searchsorted(self._starts, rows, "right") - 1
        out = np.zeros((len(rows), self.dim), np.float32)
        for index in np.unique(owner):
            at = owner == index
            out[at] = self._parts[index].take(rows[at] - self._starts[index])
        return out

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1, with the columns of all partitions; None if there is none.

        Raises CatalogFormatError for metadata that are damaged.
        """
        import pyarrow as pa

        from gpubranches.catalog.metadata.tables import unify_tables

        if not any(self._tables):
            return None
        tables = []
        for first, part, path in zip(self._starts, self._parts, self._tables, strict=False):
            low, high = max(start - first, 0), min(stop - first, part.n)
            if low >= high:
                continue
            if path is None:
                tables.append(pa.table({"caption": pa.nulls(high - low, pa.string())}))
            else:
                tables.append(self._renamed(_read(path)).slice(low, high - low))
        return unify_tables(tables) if tables else None

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return None, because an array stores no reasons. Invalid rows are recognised by their values."""
        return None

    def _renamed(self, table: pa.Table) -> pa.Table:
        return table.rename_columns([self._kept.get(name, name) for name in table.column_names])

    def _checked(self, part: ArrayFile, table: Path | None) -> list[str]:
        """Return the names of the columns of a partition. Raises CatalogFormatError if it does not fit."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if part.kind != "embeddings" or part.dim != self.dim:
            raise CatalogFormatError(
                f"{part.path}: expected float embeddings of {self.dim} dims, got {part.kind} of {part.dim}"
            )
        if table is None:
            return []
        try:
            with table.open("rb") as file:
                found = pq.read_metadata(file)
            schema = found.schema.to_arrow_schema()
        except (OSError, pa.ArrowException) as error:
            raise CatalogFormatError(f"{table}: expected a Parquet file: {first_line(error)}") from error
        if found.num_rows != part.n:
            raise CatalogFormatError(f"{table}: expected {part.n} rows as in {part.path}, got {found.num_rows}")
        if (name := repeated_column(schema)) is not None:
            raise CatalogFormatError(f"{table}: expected columns of distinct names, got {name} twice; rename one")
        return list(schema.names)

    def _unpaired(self) -> list[str]:
        """Return messages about partitions without metadata, if others have some, and about unused metadata."""
        lacking = [part.path.name for part, table in self.partitions() if table is None]
        left = sorted(path.name for path in set((self.folder / "metadata").glob("*.parquet")) - set(self._tables))
        notes = []
        if lacking and (left or any(self._tables)):
            notes.append(
                f"{self.folder}: {len(lacking):,} of {len(self._parts):,} partitions have no metadata: "
                f"{_some(lacking)}; expected metadata_K.parquet of the same ending"
            )
        if left:
            notes.append(f"{self.folder}: {len(left):,} files of metadata have no embeddings: {_some(left)}")
        others = sorted(path.name for path in (self.folder / "metadata").glob("*") if path.suffix != ".parquet")
        if others:
            notes.append(f"{self.folder}: metadata are read from .parquet alone, skipped are {_some(others)}")
        return notes


def _paths(table: Path) -> list[str]:
    """Return all paths of pictures in one file of metadata."""
    names = _read(table, [IMAGE_PATH])
    return named_paths(names[IMAGE_PATH]) if names.num_columns else []


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    import pyarrow as pa

    from gpubranches.catalog.metadata.tables import read_parquet

    try:
        return read_parquet(path, columns)
    except (OSError, pa.ArrowException) as error:
        raise CatalogFormatError(
            f"{path}: the file is damaged ({first_line(error)}); restore it from a copy or make it again"
        ) from error


def _beside(arrays: Sequence[Path], folder: Path) -> list[Path | None]:
    """Return the metadata file of each partition: that with the same suffix, else the only one with the same number."""
    present = {path.stem.removeprefix("metadata_"): path for path in sorted(folder.glob("metadata_*.parquet"))}
    endings = [path.stem.removeprefix("img_emb_") for path in arrays]
    tables = [present.pop(ending, None) for ending in endings]
    left: dict[int, list[Path]] = {}
    for path in present.values():
        if re.search(r"_\d+$", path.stem):
            left.setdefault(_number(path), []).append(path)
    for at, path in enumerate(arrays):
        if tables[at] is None and len(same := left.get(_number(path), [])) == 1:
            tables[at] = same.pop()
    return tables


def _number(path: Path) -> int:
    found = re.search(r"_(\d+)$", path.stem)
    if found is None:
        raise CatalogFormatError(f"{path}: expected a partition number at the end of the name, such as img_emb_0.npy")
    return int(found.group(1))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
