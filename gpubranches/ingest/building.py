"""Input to catalog: embed pictures into a staging folder, fit the constants once, write segments. Resumes anywhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import ENCODED_ROWS, SEGMENT_ROWS, Catalog, disk_errors, exclusive
from gpubranches.coding import FIT_ROWS, Coder, unit_rows
from gpubranches.embed import Embedder, open_embedder
from gpubranches.errors import CatalogNotFoundError, DataError, UsageError
from gpubranches.head import open_head
from gpubranches.ingest.datasets import ClipRetrieval, Joined, Source, is_image_folder, open_dataset
from gpubranches.ingest.staging import embed_folder
from gpubranches.quantize import SignQuantizer, require_dims
from gpubranches.space import Space, digest

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class IngestReport:
    """n: live items in the catalog; errors: inputs that could not be read, over the catalog's life; seconds: wall."""

    n: int
    errors: int
    seconds: float


def ingest(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    embedder: Embedder | str | None = None,
    head: str | None = None,
    d: int = 32,
    quantizer: str | None = None,
    keep_embeddings: bool = True,
    strict: bool = False,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> IngestReport:
    """Make a catalog of folders and files; the same call after a stop goes on where it was.

    inputs: folders of pictures, clip-retrieval folders, .npy, .u8bin, .fbin; several become one catalog with a column
    `input`. Ids are positions in the input; a row that cannot be read consumes its id and is recorded. Embeddings
    are scaled to unit length. head: "rca" (default), "pca", "none" or a file. d: code dims of rca and pca. quantizer:
    "uniform" or "quantile", see `scalar_quantizer`; None: the head's usual one. keep_embeddings: False to store codes
    and bits alone, and to decode embeddings from the codes, by a head's file that has a decoder. strict: raise
    DataError at the end if anything could not be read. Peak anonymous memory: about 150 bytes a row of one segment
    (2^20 rows) plus, for n up to 100,000, 14 x D bytes a row of the sample; it does not grow with n beyond that.
    """
    began = time.perf_counter()
    folder = Path(out)
    report = progress or (lambda stage, done, total: None)
    opened = open_embedder(embedder) if isinstance(embedder, str) else embedder
    _require_inputs(inputs)
    if opened is not None:
        require_dims(opened.D, "the embedder")
    if not keep_embeddings:
        _require_decoder(head, d)
    with disk_errors(folder):
        (folder / "staging").mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "staging"), disk_errors(folder):
        source = _open_inputs(inputs, folder / "staging", opened, batch_size, report)
        made_by = ["" if opened is None else opened.identity, *([] if quantizer is None else [quantizer])]
        made_by += [] if keep_embeddings else ["no embeddings"]
        fingerprint = digest(source.fingerprint, str(head), str(d), *made_by)
        if (folder / "manifest.json").exists():
            catalog = Catalog.open(folder)
            if catalog.source.get("fingerprint") != fingerprint or catalog.source.get("appends"):
                raise UsageError(f"{folder}: holds a catalog of other input; append to it, or choose another folder")
        else:
            catalog = _create(folder, source, opened, head, d, quantizer, fingerprint, keep_embeddings)
        _write_rows(catalog, source, 0, report)
    shutil.rmtree(folder / "staging", ignore_errors=True)
    return _finish(catalog, strict, began)


def append(
    directory: str | Path,
    inputs: Sequence[str | Path],
    *,
    strict: bool = False,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> IngestReport:
    """Add items to a catalog with its own head, constants and embedder; resumes like `ingest`."""
    began = time.perf_counter()
    catalog = Catalog.open(directory)
    report = progress or (lambda stage, done, total: None)
    _require_inputs(inputs)
    pictures = any(is_image_folder(Path(path)) for path in inputs)
    opened = open_embedder(catalog.embedder) if pictures and catalog.embedder else None
    with disk_errors(catalog.path):
        (catalog.path / "staging").mkdir(exist_ok=True)
    with exclusive(catalog.path / "staging"), disk_errors(catalog.path):
        known: dict[str, str] = catalog.source.get("roots", {})
        source = _open_inputs(inputs, catalog.path / "staging", opened, batch_size, report, known)
        expected = ("embeddings", catalog.D) if catalog.D else ("codes", catalog.d)
        if (source.kind, source.dim) != expected:
            raise UsageError(f"append: expected {expected[0]} of {expected[1]} dims, got {source.kind} of {source.dim}")
        appends = list(catalog.source.get("appends", []))
        last = appends[-1] if appends else {}
        unfinished = last.get("fingerprint") == source.fingerprint and last["base"] + last["n"] > catalog.next_id
        if not unfinished:
            last = {"fingerprint": source.fingerprint, "base": catalog.next_id, "n": source.n}
            roots = {**known, **source.roots}
            catalog.describe({**catalog.source, "roots": roots, "appends": [*appends, last]})
        _write_rows(catalog, source, last["base"], report)
    shutil.rmtree(catalog.path / "staging", ignore_errors=True)
    return _finish(catalog, strict, began)


def _require_inputs(inputs: Sequence[str | Path]) -> None:
    for path in inputs:
        if not Path(path).exists():
            raise CatalogNotFoundError(f"{path}: expected a file or folder to ingest, found none")


def _require_decoder(spec: str | None, d: int) -> None:
    """Raise UsageError unless a head's spec names a file with a decoder."""
    head, ready = open_head(spec, d=d) if spec else (None, False)
    if head is None or not ready or not head.decodes:
        raise UsageError(
            f"embeddings: to keep none, expected a head's file with a decoder, got {spec}; train-head makes one"
        )


def _open_inputs(
    inputs: Sequence[str | Path],
    staging: Path,
    embedder: Embedder | None,
    batch_size: int,
    progress: Progress,
    known: Mapping[str, str] | None = None,
) -> Source:
    """Return all inputs as one. known: the folders of pictures that the catalog has already, by input."""
    sources: list[Source] = []
    for number, path in enumerate(Path(p) for p in inputs):
        if not is_image_folder(path):
            sources.append(open_dataset(path))
            continue
        if embedder is None:
            raise UsageError(f"{path}: a folder of pictures needs a model; pass --embedder open_clip:MODEL/PRETRAINED")
        place = staging / f"input-{number}"
        embed_folder(path, place, embedder, batch_size=batch_size, progress=progress)
        staged = ClipRetrieval(place)
        staged.roots = {"": str(path.resolve())}
        sources.append(staged)
    source = _joined(sources, inputs, known or {})
    if source.n == 0:
        raise UsageError(f"expected at least one row or picture in {', '.join(map(str, inputs))}, found none")
    return source


def _joined(sources: Sequence[Source], inputs: Sequence[str | Path], known: Mapping[str, str]) -> Source:
    """Return several sources as one; a single one as it is, unless its pictures are in another folder than those known.

    Only the column `input` tells from which of two folders a picture is.
    """
    own = list(sources[0].roots.values())
    if len(sources) == 1 and (not known or own in ([], [known.get("")])):
        return sources[0]
    return Joined(sources, _names(inputs, known))


def _names(inputs: Sequence[str | Path], known: Mapping[str, str]) -> list[str]:
    """Name the inputs as they are known, else by their last path parts; equal ones get a number."""
    by_path, names = {root: name for name, root in known.items()}, list[str]()
    for path in (Path(path).resolve() for path in inputs):
        name, number = by_path.get(str(path), path.stem), len(names)
        while name in names or known.get(name, str(path)) != str(path):
            number += 1
            name = f"{path.stem}-{number}"
        names.append(name)
    return names


def _create(
    folder: Path,
    source: Source,
    embedder: Embedder | None,
    head: str | None,
    d: int,
    quantizer: str | None,
    fingerprint: str,
    keep_embeddings: bool,
) -> Catalog:
    origin = {"fingerprint": fingerprint, "n": source.n, "roots": source.roots}
    if source.kind == "codes":
        if head is not None or embedder is not None or quantizer is not None or not keep_embeddings:
            raise UsageError(
                "codes have no embeddings: expected neither --head nor --quantizer nor --embedder nor --no-embeddings; "
                "leave them out"
            )
        return Catalog.create(folder, space=Space(), d=source.dim, source=origin)
    if embedder is not None and source.dim != embedder.D:
        raise UsageError(f"embedder: expected one of {source.dim} dims as in the input, got {embedder.D}")
    require_dims(source.dim, "the input")
    identity = "" if embedder is None else embedder.identity
    coder = Coder.choose(head, D=source.dim, rows=source.n, d=d, quantizer=quantizer, embedder=identity)
    rows = np.linspace(0, source.n - 1, min(source.n, FIT_ROWS)).round().astype(np.int64)
    unit, bad = unit_rows(source.take(np.unique(rows)))
    sample: NDArray[np.float32] = unit[~bad].astype(np.float32)
    if not len(sample):
        raise DataError("expected embeddings of finite numbers, all of the sample are NaN, infinite or zero")
    coder.fit(sample)
    signs = SignQuantizer().fit(sample)
    space = Space(embedder=identity, head=coder.head.identity, quantizer=coder.scalar.identity, means=signs.identity)
    return Catalog.create(
        folder,
        space=space,
        d=coder.head.d,
        signs=signs,
        scalar=coder.scalar,
        head=coder.head.to_bytes(),
        text_mean=None if embedder is None else embedder.text_mean,
        embedder="" if embedder is None else embedder.spec,
        source=origin,
        keep_embeddings=keep_embeddings,
    )


def _write_rows(catalog: Catalog, source: Source, base: int, progress: Progress) -> None:
    """Append the source's rows as segments, from the first row not yet there; row i gets the id base + i."""
    with catalog.writing():
        coder = Coder.of(catalog)
        start = catalog.next_id - base
        progress("encoding", start, source.n)
        while start < source.n:
            stop = min(start + SEGMENT_ROWS, source.n)
            _write_segment(catalog, source, coder, base, start, stop, progress)
            start = stop


def _write_segment(
    catalog: Catalog, source: Source, coder: Coder | None, base: int, start: int, stop: int, progress: Progress
) -> None:
    good = np.ones(stop - start, np.bool_)
    codes = np.zeros((stop - start, catalog.d), np.uint8)
    signs = catalog.signs
    bits = np.zeros((stop - start, 0 if signs is None else signs.n_bits // 8), np.uint8)
    scales = np.zeros(stop - start, np.float16)
    for first in range(start, stop, ENCODED_ROWS):
        rows = np.arange(first, min(first + ENCODED_ROWS, stop))
        at = slice(first - start, rows[-1] + 1 - start)
        if coder is None or signs is None:
            codes[at] = source.take(rows)
        else:
            unit, bad = unit_rows(source.take(rows))
            good[at] = ~bad
            wide = unit.astype(np.float32)
            codes[at] = coder.codes(wide)
            bits[at], scales[at] = signs.encode(wide)
        progress("encoding", int(rows[-1]) + 1, source.n)
    kept = np.flatnonzero(good)

    def embeddings(rows: NDArray[np.int64]) -> NDArray[np.float16]:
        return unit_rows(source.take(start + kept[rows]))[0]

    items = source.items(start, stop)
    errors = _errors(items, np.flatnonzero(~good), base + start)
    if items is not None:
        items = items.take(kept).drop_columns([name for name in items.column_names if name in ("id", "error")])
    catalog.append(
        codes[kept],
        ids=base + start + kept.astype(np.int64),
        bits=None if signs is None else bits[kept],
        scales=None if signs is None else scales[kept],
        embeddings=None if signs is None else embeddings,
        items=items if items is not None and items.num_columns else None,
        errors=errors,
        next_id=base + stop,
    )


def _errors(items: pa.Table | None, rows: NDArray[np.intp], first_id: int) -> pa.Table:
    import pyarrow as pa

    def column(name: str) -> list[Any]:
        if items is None or name not in items.column_names:
            return [None] * len(rows)
        values: list[Any] = items[name].take(rows).to_pylist()
        return values

    reasons = [reason or "the embedding is zero, NaN or infinite" for reason in column("error")]
    paths = [None if path is None else str(path) for path in column("image_path")]
    return pa.table(
        {
            "id": pa.array(first_id + rows, pa.int64()),
            "path": pa.array(paths, pa.string()),
            "reason": pa.array(reasons, pa.string()),
        }
    )


def _finish(catalog: Catalog, strict: bool, began: float) -> IngestReport:
    count = catalog.n_errors
    if strict and count:
        first = catalog.errors(1)[0]
        raise DataError(
            f"{catalog.path}: {count} inputs could not be read, the others are in the catalog; the first is "
            f"{first['path'] or first['id']}: {first['reason']}"
        )
    return IngestReport(catalog.n, count, time.perf_counter() - began)
