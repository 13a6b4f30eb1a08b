"""The catalog: building, appending, compacting and encoding it. The single commits are in `writer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.catalog.codec import FIT_ROWS, Codec, require_decoder, unit_rows
from gpubranches.catalog.fitted_statistics import FittedStatistics
from gpubranches.catalog.manifest import listings, require_code_dims
from gpubranches.catalog.metadata.columns import IMAGE_PATH
from gpubranches.catalog.row_source import EmbeddingArray, RowSource
from gpubranches.catalog.segment import SEGMENT_ROWS, Rows, add_segment
from gpubranches.catalog.segment_rows import (
    Encode,
    OneAtATime,
    encoded_rows,
    gathered_rows,
    recoded_rows,
    segment_parts,
)
from gpubranches.catalog.storage import disk_errors, require_content, require_space
from gpubranches.catalog.writer import CatalogWriter, write_statistics
from gpubranches.core.arrays import evenly_spaced
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.core.files import atomic_folder, require_text
from gpubranches.core.threads import one_ahead
from gpubranches.encoders import Embedder, open_embedder
from gpubranches.encoders.joint import part_dims
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer, require_dims
from gpubranches.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Report = Callable[[int, int], None]
"""Function that is called with the rows that are done and their total number."""
_FOR_CODES = (
    "codes have no embeddings: expected neither --head nor --quantizer nor --embedder nor --no-embeddings; leave them "
    "out"
)


class Catalog(CatalogWriter):
    """A catalog of images: codes, sign bits, embeddings and metadata of items, to be read and changed.

    Use `open` for an existing catalog, `from_embeddings` for an array, and `gpubranches.ingest` for files.
    """

    @classmethod
    def from_embeddings(
        cls,
        path: str | Path,
        embeddings: ArrayLike,
        *,
        metadata: Any = None,
        embedder: Embedder | str | Sequence[str] | None = None,
        head: str | None = None,
        d: int = 32,
        quantizer: str | None = None,
        keep_embeddings: bool = True,
        pictures: str | Path | None = None,
    ) -> Self:
        """Make a catalog of embeddings in memory. The folder appears complete, or not at all.

        embeddings: (n, D) floats; row i becomes the item of id i, scaled to unit length. A row that is zero or not
        finite is left out, and listed by `errors`. metadata: n rows, as a pyarrow table, a dict of columns or a
        DataFrame; columns with names that the program uses, such as `id`, are renamed, to `source_id`. embedder: the
        embedder that made the embeddings, or its spec, see `open_embedder`; with it texts can be searched. head, d,
        quantizer, keep_embeddings: as for `gpubranches.ingest`. pictures: the folder that the column `image_path` is
        relative to. Raises UsageError if the folder is not empty or an option cannot be used, ArrayError for other
        arrays, DataError if no row has a direction or the folder cannot be written.
        """
        folder, source = Path(path), EmbeddingArray(embeddings, metadata, pictures)
        require_text(folder)
        opened = open_embedder(embedder) if isinstance(embedder, Sequence) else embedder
        with atomic_folder(folder) as partial:
            catalog = cls.create_for(
                partial,
                source,
                embedder=opened,
                head=head,
                d=d,
                quantizer=quantizer,
                keep_embeddings=keep_embeddings,
                origin={"roots": source.roots} if source.roots else {},
            )
            catalog.append_source(source)
        return cls.open(folder)

    @classmethod
    def create_for(
        cls,
        path: Path,
        source: RowSource,
        *,
        embedder: Embedder | None = None,
        head: str | None = None,
        d: int = 32,
        quantizer: str | None = None,
        keep_embeddings: bool = True,
        origin: dict[str, Any] | None = None,
        listing: tuple[str, bytes] | None = None,
        next_id: int = 0,
    ) -> Self:
        """Make an empty catalog for the rows of a source; head and quantizers are fitted to `FIT_ROWS` of them.

        embedder, head, d, quantizer, keep_embeddings: as for `from_embeddings`; origin: JSON that describes the inputs;
        listing: see `set_source`; next_id: the first id. Raises UsageError for options that do not fit the source,
        DataError if no row of the sample has a direction.
        """
        if source.kind == "codes":
            if any(given is not None for given in (head, embedder, quantizer)) or not keep_embeddings:
                raise UsageError(_FOR_CODES)
            space = EmbeddingSpace()
            return cls.create(path, space=space, d=source.dim, source=origin, listing=listing, next_id=next_id)
        if embedder is not None and source.dim != embedder.D:
            raise UsageError(f"embedder: expected one of {source.dim} dims as in the input, got {embedder.D}")
        require_dims(source.dim, "the input")
        known = "" if embedder is None else embedder.identity
        codec = Codec.choose(head, D=source.dim, rows=source.n, d=d, quantizer=quantizer, embedder=known)
        if not keep_embeddings:
            require_decoder(codec.head if codec.fitted else None, head)
        sample = _sample(source)
        codec, signs = codec.fit(sample), SignQuantizer().fit(sample)
        return cls.create(
            path,
            space=EmbeddingSpace(known, codec.head.identity, codec.scalar.identity, signs.identity),
            d=codec.head.d,
            signs=signs,
            scalar=codec.scalar,
            head=codec.head.to_bytes(),
            text_mean=None if embedder is None else embedder.text_mean,
            embedder="" if embedder is None else embedder.spec,
            parts=part_dims(embedder),
            source=origin,
            listing=listing,
            keep_embeddings=keep_embeddings,
            next_id=next_id,
        )

    def append_source(self, source: RowSource, *, first_id: int = 0, report: Report | None = None) -> None:
        """Append the rows of a source that the catalog does not have yet, as segments; row i gets id first_id + i.

        The rows of the next segment are encoded while a segment is ordered and written. report: called with (encoded,
        total) rows of the source.
        """
        with self.writing():
            codec, signs, start = self.codec, self.signs, self.next_id - first_id
            tell = report or (lambda done, total: None)
            tell(start, source.n)
            shared = OneAtATime(source)

            def encoded(span: tuple[int, int]) -> tuple[Rows, pa.Table, int]:
                rows, errors = encoded_rows(
                    shared,
                    *span,
                    first_id=first_id + span[0],
                    codec=codec,
                    signs=signs,
                    report=lambda done: tell(done, source.n),
                )
                return rows, errors, span[1]

            spans = ((at, min(at + SEGMENT_ROWS, source.n)) for at in range(start, source.n, SEGMENT_ROWS))
            for rows, errors, stop in one_ahead(encoded, spans):
                self.append(
                    rows.codes,
                    ids=rows.ids,
                    bits=rows.bits,
                    scales=rows.scales,
                    embeddings=rows.embeddings,
                    items=rows.items,
                    errors=errors,
                    next_id=first_id + stop,
                )

    def compact(self, *, keep_embeddings: bool = True) -> None:
        """Rewrite the catalog without deleted rows and with small segments joined; ids stay.

        keep_embeddings: False to remove the embeddings for good, and to decode them from the codes. Raises UsageError
        if the catalog's head has no decoder, CatalogFormatError if a file is damaged, because damage is never copied.
        """
        with self.writing(), disk_errors(self.path):
            if not keep_embeddings and ((codec := self.codec) is None or not codec.decodes):
                raise UsageError(
                    f"embeddings: {self.path} has no head that decodes them from codes; train a head by train-head, "
                    "and make codes with it by encode"
                )
            self._require_sound()
            entries = self._compacted(keep_embeddings)
            changed = {} if keep_embeddings else {"keeps_embeddings": False}
            self._commit(np.zeros(0, np.bool_), segments=entries, **changed)
            self._remove_orphans()

    def _compacted(self, keep_embeddings: bool) -> list[dict[str, Any]]:
        """Write the live rows as new segments; return their entries.

        A snapshot that is still referenced keeps its files, so no snapshot may be referenced when the old files are
        removed.
        """
        from gpubranches.catalog.items import read_errors

        snapshot = self.snapshot
        errors = read_errors(snapshot.error_tables)
        entries: list[dict[str, Any]] = []
        for part in segment_parts(snapshot.live_ids()):
            rows = gathered_rows(snapshot, part, keep_embeddings=keep_embeddings and self.keeps_embeddings)
            entries.append(add_segment(self.path, len(entries), rows, None if entries else errors))
        return entries

    def recode(
        self,
        encode: Encode,
        *,
        d: int,
        space: EmbeddingSpace,
        scalar: ScalarQuantizer,
        head: bytes,
        report: Report | None = None,
    ) -> None:
        """Replace the codes of all items by new ones of their embeddings, in one commit; everything else stays.

        encode: function from embeddings to codes; d: dims of the codes; space: the catalog's with the new head and
        quantizer; scalar, head: as in `create`; report: called with (encoded, total) rows. New segments are written one
        after the other beside the old ones, each with its rows in a new order; deleted rows stay deleted. Raises
        UsageError for a catalog without embeddings, DataError if the disk has no space for a second copy of the
        segments, CatalogFormatError if a file is damaged.
        """
        require_code_dims(d)
        with self.writing(), disk_errors(self.path):
            if not self.stores_embeddings:
                raise UsageError(
                    f"codes: {self.path} stores no embeddings from which codes can be made; ingest the embeddings"
                )
            held = sum(entry["bytes"] for segment in self.segments for entry in segment.files.values())
            require_space(self.path, held + self.n_positions * max(0, d - self.d), "the new codes")
            self._require_sound()
            entries, flags = self._recoded(encode, d, report)
            statistics = FittedStatistics(signs=self.signs, scalar=scalar, text_mean=self.text_mean)
            new_files = write_statistics(self.path, self.generation + 1, statistics, head)
            files = {**listings(self.snapshot.manifest), **new_files}
            self._commit(flags, segments=entries, files=files, d=d, space=space.to_json())
            self._remove_orphans()

    def _recoded(self, encode: Encode, d: int, report: Report | None) -> tuple[list[dict[str, Any]], NDArray[np.bool_]]:
        """Write all segments with new codes; return their entries, and which of their positions are deleted."""
        entries, done = [], 0
        before, after = self.snapshot.deleted_flags(), np.zeros(self.n_positions, np.bool_)
        total = sum(segment.n for segment in self.segments)
        for number, segment in enumerate(self.segments):
            own = slice(segment.start, segment.start + segment.n)

            def report_rows(rows: int, first: int = done) -> None:
                if report is not None:
                    report(first + rows, total)

            tables = {
                segment.folder / name: entry for name, entry in segment.files.items() if name.endswith(".parquet")
            }
            rows = recoded_rows(segment, encode, d, report_rows)
            entries.append(add_segment(self.path, number, rows, None, tables))
            ids = np.fromfile(self.path / entries[-1]["name"] / "ids.i64", np.int64)
            after[own] = np.isin(ids, segment.ids[before[own]])
            done += segment.n
        return entries, after

    def _require_sound(self) -> None:
        for segment in self.segments:
            segment.require_sound()
        for name, entry in listings(self.snapshot.manifest).items():
            require_content(self.path / name, entry)


def _sample(source: RowSource) -> NDArray[np.float32]:
    """Return up to FIT_ROWS evenly spaced unit embeddings of a source, (m, D) float32. Raises DataError for none."""
    unit, bad = unit_rows(source.take(evenly_spaced(source.n, FIT_ROWS)))
    sample: NDArray[np.float32] = unit[~bad].astype(np.float32)
    if not len(sample):
        if reasons := source.reasons(0, 1):
            first = source.items(0, 1)
            name = f"{first[IMAGE_PATH][0]}: " if first is not None and IMAGE_PATH in first.column_names else ""
            raise DataError(f"expected an item that can be read, found none; the first: {name}{reasons[0]}")
        raise DataError("expected embeddings of finite numbers, all of the sample are NaN, infinite or zero")
    return sample
