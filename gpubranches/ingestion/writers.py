"""Writers of the rows of a catalog in layouts that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.files import atomic_file, atomic_folder, output, write_npy

_WRITE_ROWS = 8192
_GROUP_ROWS = 1 << 17


class CatalogRows(Protocol):
    """The part of a catalog that the writers read."""

    @property
    def d(self) -> int: ...  # noqa: D102
    @property
    def D(self) -> int: ...  # noqa: D102
    def codes(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]: ...  # noqa: D102
    def embeddings(self, ids: NDArray[np.int64]) -> NDArray[np.float32]: ...  # noqa: D102
    def items(self, ids: NDArray[np.int64]) -> list[dict[str, Any]]: ...  # noqa: D102


def write_u8bin(path: Path, rows: CatalogRows, ids: NDArray[np.int64]) -> None:
    """Write the codes of items as .u8bin: two uint32 (n, d), then n x d uint8."""
    with atomic_file(path) as file:
        file.write(np.array([len(ids), rows.d], np.uint32))
        for start in range(0, len(ids), _WRITE_ROWS):
            file.write(rows.codes(ids[start : start + _WRITE_ROWS]))


def write_codes_parquet(path: Path, rows: CatalogRows, ids: NDArray[np.int64]) -> None:
    """Write the codes of items as Parquet with columns id int64 and c0, c1, ... uint8, as `Boxes.to_sql` expects."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.int64()), *((f"c{dim}", pa.uint8()) for dim in range(rows.d))])
    with atomic_file(path) as file, pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(ids), _GROUP_ROWS):
            part = ids[start : start + _GROUP_ROWS]
            columns = [part, *np.ascontiguousarray(rows.codes(part).T)]
            writer.write_table(pa.table([pa.array(column) for column in columns], schema=schema))


def write_clip_retrieval(folder: Path, rows: CatalogRows, ids: NDArray[np.int64], *, partition: int = 100_000) -> None:
    """Write embeddings (float16) and metadata of items as a clip-retrieval folder, `partition` rows per file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_folder(folder) as made:
        for name in ("img_emb", "metadata"):
            (made / name).mkdir()
        for number, start in enumerate(range(0, len(ids), partition)):
            part = ids[start : start + partition]
            with output(made / f"img_emb/img_emb_{number}.npy") as file:
                write_npy(file, rows.embeddings(part).astype(np.float16))
            with output(made / f"metadata/metadata_{number}.parquet") as file:
                pq.write_table(pa.Table.from_pylist(rows.items(part)), file)
