"""From input to catalog: scan the input, embed pictures, fit the constants once, write segments.

Every step can be stopped and resumed by the same call; ingested files are never ingested again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubranches.catalog import Catalog
from gpubranches.catalog.codec import require_decoder
from gpubranches.catalog.row_source import RowSource
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.core.files import require_text, spelled, sync_folder
from gpubranches.encoders import Embedder, open_embedder
from gpubranches.encoders.heads import open_head
from gpubranches.encoders.quantizers import require_dims
from gpubranches.errors import DataError, UsageError
from gpubranches.ingestion.inputs import Input, PlannedPiece, scan
from gpubranches.ingestion.plan import is_begun, plan_append, plan_ingest
from gpubranches.ingestion.records import IngestHistory, listing
from gpubranches.ingestion.run import IngestRun, Progress, exclusive_run

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestReport:
    """n: live items in the catalog; errors: inputs that could not be read, over the catalog's life; seconds: wall.

    added: number of new items; notes: what was skipped, renamed or not found, one sentence each.
    """

    n: int
    errors: int
    seconds: float
    added: int = 0
    notes: tuple[str, ...] = ()


def ingest(
    inputs: str | Path | Sequence[str | Path],
    path: str | Path,
    *,
    embedder: Embedder | str | None = None,
    head: str | None = None,
    d: int = 32,
    quantizer: str | None = None,
    keep_embeddings: bool = True,
    pictures: str | Path | None = None,
    strict: bool = False,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Catalog:
    """Make a catalog of folders and files, and open it; the same call resumes a stopped run.

    inputs: one path or several. All arguments and errors are those of `build_catalog`; its notes are logged as
    warnings.
    """
    report = build_catalog(
        [inputs] if isinstance(inputs, str | Path) else inputs,
        path,
        embedder=embedder,
        head=head,
        d=d,
        quantizer=quantizer,
        keep_embeddings=keep_embeddings,
        pictures=pictures,
        strict=strict,
        batch_size=batch_size,
        progress=progress,
    )
    for note in report.notes:
        _log.warning("%s", note)
    return Catalog.open(path)


def build_catalog(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    embedder: Embedder | str | None = None,
    head: str | None = None,
    d: int = 32,
    quantizer: str | None = None,
    keep_embeddings: bool = True,
    pictures: str | Path | None = None,
    strict: bool = False,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> IngestReport:
    """Make a catalog of folders and files, and report on it; the same call resumes a stopped run.

    inputs: folders of pictures, clip-retrieval folders, .npy, .u8bin, .fbin; several become one catalog with a column
    `input`. Ids are positions in the input; a row that cannot be read uses up its id and is recorded. Embeddings are
    scaled to unit length. embedder: one, or its spec, see `open_embedder`; pictures need one. head: "rca" (default),
    "pca", "none" or a file. d: code dims of rca and pca. quantizer: "uniform" or "quantile", see `scalar_quantizer`;
    None: the head's default. keep_embeddings: False to store codes and bits alone, and to decode embeddings from the
    codes, by a head's file that has a decoder. pictures: the folder of the pictures that clip-retrieval folders name;
    None: it is searched. strict: raise DataError at the end if any
    input could not be read. Peak anonymous memory: about 150 bytes a row of one segment (2^20 rows), plus, for n up to
    100,000, 14 x D bytes a row of the sample, plus about 1 kB a picture; it does not grow with n beyond that.

    If the catalog exists, only pictures of the same input that could not be read and were repaired since are added.
    Raises UsageError if its input was another one or has changed, or its options were others.
    """
    began = time.perf_counter()
    folder = Path(out)
    require_text(folder)
    opened = _opened(embedder)
    made_with = _made_with(opened, head, d, quantizer, keep_embeddings)
    found = scan(inputs, None if pictures is None else Path(pictures))
    _require_rows(found, opened)
    work = IngestRun(folder / "staging", opened, batch_size, progress or (lambda stage, done, total: None))
    with exclusive_run(folder) as stopped:
        known = IngestHistory(Catalog.open(folder)) if (folder / "manifest.json").exists() else None
        if known is not None and is_begun(known):
            catalog, before = known.catalog, known.catalog.n
            _take(catalog, known, *plan_ingest(known, found, made_with, stopped), work)
        else:
            source, takings = work.open([(each, [(piece, 0) for piece in each.pieces]) for each in found], {})
            before, entry = 0, _entry(found, 0, 0, source.n, [])
            origin = {"made_with": made_with, **_places(found, source, {}), "inputs": [entry]}
            _forget_begun(folder)
            catalog = Catalog.create_for(
                folder,
                source,
                embedder=opened,
                head=head,
                d=d,
                quantizer=quantizer,
                keep_embeddings=keep_embeddings,
                origin=origin,
                listing=(entry["listing"], listing(takings)),
            )
            _append_rows(catalog, source, 0, work.progress)
        work.forget(found)
    return _finish(catalog, strict, began, before, [note for each in found for note in each.notes])


def append(
    directory: str | Path,
    inputs: Sequence[str | Path],
    *,
    new: bool = False,
    embedder: Embedder | str | None = None,
    pictures: str | Path | None = None,
    strict: bool = False,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> IngestReport:
    """Add items to a catalog with its own head, statistics and embedder; resumes like `build_catalog`.

    new: add only what is not in the catalog yet; if False, raises UsageError if any part of the input is in it.
    embedder: for a catalog that names none; raises SpaceMismatchError if it is not the catalog's. pictures, strict: as
    for `build_catalog`.
    """
    began = time.perf_counter()
    catalog = Catalog.open(directory)
    found = scan(inputs, None if pictures is None else Path(pictures))
    opened = _embedder_of(catalog, found, embedder)
    _require_rows(found, opened)
    notes = [note for each in found for note in each.notes]
    work = IngestRun(catalog.path / "staging", opened, batch_size, progress or (lambda stage, done, total: None))
    with exclusive_run(catalog.path) as stopped:
        catalog.refresh()
        before, known = catalog.n, IngestHistory(catalog)
        plan, record, told = plan_append(known, found, new, stopped)
        _take(catalog, known, plan, record, work)
        work.forget(found)
    return _finish(catalog, strict, began, before, [*notes, *told])


def _take(
    catalog: Catalog,
    known: IngestHistory,
    plan: Sequence[tuple[Input, list[PlannedPiece]]],
    record: int | None,
    work: IngestRun,
) -> None:
    """Ingest the plan; record: the number of the stopped run that is resumed, None for a new run."""
    plan = [(each, takings) for each, takings in plan if takings]
    if not plan:
        return
    if catalog.D and catalog.head_path is None:
        raise UsageError(
            f"append: {catalog.path} has no head, which makes codes of embeddings; make new codes by encode --head"
        )
    expected = ("embeddings", catalog.D) if catalog.D else ("codes", catalog.d)
    for each, _ in plan:
        kind, dim = work.shape_of(each)
        if (kind, dim) != expected:
            raise UsageError(f"append: expected {expected[0]} of {expected[1]} dims, got {kind} of {dim}")
    source, takings = work.open(plan, catalog.source)
    entries = list(catalog.source.get("inputs", []))
    base, mended = catalog.next_id, known.mended_ids(piece for piece, start in takings if start == 0)
    if record is not None:  # the stopped run may have read files that could not be read before
        entry = entries.pop(record)
        base, mended = entry["base"], entry["mended"]
    entry = _entry([each for each, _ in plan], catalog.generation + 1, base, source.n, mended)
    places = _places([each for each, _ in plan], source, catalog.source)
    catalog.set_source({**catalog.source, **places, "inputs": [*entries, entry]}, (entry["listing"], listing(takings)))
    _append_rows(catalog, source, base, work.progress)


def _entry(found: Sequence[Input], generation: int, base: int, n: int, mended: list[int]) -> dict[str, Any]:
    paths = [spelled(each.path) for each in found]
    return {"paths": paths, "listing": f"inputs-{generation}.parquet", "base": base, "n": n, "mended": mended}


def _places(found: Sequence[Input], source: RowSource, before: dict[str, Any]) -> dict[str, Any]:
    """Return the folders of pictures, the earlier ones included: `roots`, and `moved` if any were moved."""
    moves = list(before.get("moved", []))
    moves += [list(move) for each in found for move in each.moves if list(move) not in moves]
    roots = {"roots": {**before.get("roots", {}), **source.roots}}
    return {**roots, "moved": moves} if moves else roots


def _made_with(
    embedder: Embedder | None, head: str | None, d: int, quantizer: str | None, keep_embeddings: bool
) -> dict[str, Any]:
    """Return the options that distinguish catalogs of the same input; the file of a head by its content.

    Raises UsageError for options that do not fit together.
    """
    opened, fitted = open_head(head, d=d) if head else (None, False)
    if not keep_embeddings:
        require_decoder(opened if fitted else None, head)
    return {
        "embedder": "" if embedder is None else embedder.identity,
        "head": opened.identity if opened is not None and fitted else head or "",
        "dims": d,
        "quantizer": quantizer or "",
        "embeddings": keep_embeddings,
    }


def _opened(embedder: Embedder | str | None) -> Embedder | None:
    """Return an embedder or the one of a name. Raises UsageError for one of more dims than a catalog has."""
    opened = open_embedder(embedder) if isinstance(embedder, str) else embedder
    if opened is not None:
        require_dims(opened.D, "the embedder")
    return opened


def _embedder_of(catalog: Catalog, found: Sequence[Input], embedder: Embedder | str | None) -> Embedder | None:
    """Return the embedder for the pictures of inputs, None if there are none to embed."""
    spec = embedder if embedder is not None else catalog.embedder
    if not spec or (embedder is None and all(each.source is not None for each in found)):
        return None
    opened = open_embedder(spec) if isinstance(spec, str) else spec
    catalog.space.require(EmbeddingSpace(embedder=opened.identity))
    return opened


def _require_rows(found: Sequence[Input], embedder: Embedder | None) -> None:
    for each in found:
        if each.source is None and embedder is None:
            raise UsageError(
                f"{spelled(each.path)}: a folder of pictures needs a model; pass --embedder open_clip:MODEL/PRETRAINED"
            )
    if not any(piece.rows for each in found for piece in each.pieces):
        told = "".join(f"; {note}" for each in found for note in each.notes)
        paths = ", ".join(spelled(each.path) for each in found)
        raise UsageError(f"expected at least one row or picture in {paths}, found none{told}")


def _forget_begun(folder: Path) -> None:
    """Remove the manifest of a catalog that was stopped before its first rows, and sync: its files will change."""
    (folder / "manifest.json").unlink(missing_ok=True)
    sync_folder(folder)


def _append_rows(catalog: Catalog, source: RowSource, first_id: int, progress: Progress) -> None:
    catalog.append_source(source, first_id=first_id, report=lambda done, total: progress("encoding", done, total))


def _finish(catalog: Catalog, strict: bool, began: float, before: int, notes: Sequence[str]) -> IngestReport:
    count = catalog.n_errors
    if strict and count:
        first = catalog.errors(1)[0]
        raise DataError(
            f"{catalog.path}: {count} inputs could not be read, the others are in the catalog; the first is "
            f"{first['path'] or first['id']}: {first['reason']}"
        )
    return IngestReport(catalog.n, count, time.perf_counter() - began, catalog.n - before, tuple(notes))
