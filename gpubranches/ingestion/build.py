"""Making a catalog of inputs: scan them, embed pictures, fit the statistics once, write segments.

Every step can be stopped; the same call resumes it. Ingested files are never ingested again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubranches.catalog import Catalog
from gpubranches.catalog.row_source import RowSource
from gpubranches.core.files import require_text, sync_folder
from gpubranches.encoders import Embedder
from gpubranches.errors import DataError, UsageError
from gpubranches.ingestion.compatibility import (
    codec_catalog,
    embedder_of,
    identity_in,
    made_with_of,
    opened_embedder,
    options_of,
    require_codec,
    require_embeddable,
    require_no_shard,
)
from gpubranches.ingestion.inputs import scan
from gpubranches.ingestion.options import IngestOptions
from gpubranches.ingestion.pieces import PlannedPiece
from gpubranches.ingestion.plan import is_begun, plan_append, plan_ingest
from gpubranches.ingestion.protocol import Input, Progress
from gpubranches.ingestion.records import IngestHistory, input_record, listing, places_of_pictures
from gpubranches.ingestion.run import IngestRun, exclusive_run
from gpubranches.ingestion.shards import Shard, sampled

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestReport:
    """The result of an ingest or append.

    n: live items; errors: inputs of the catalog that could not be read, of this and earlier runs; seconds: wall-clock
    time; added: number of new items; notes: what was skipped, renamed or not found, one sentence each. decoded_per_s,
    embedded_per_s: pictures per second that were read and decoded, and that the model embedded. Each rate counts only
    the time in which the work was done, and is 0 if there were no pictures.
    """

    n: int
    errors: int
    seconds: float
    added: int = 0
    notes: tuple[str, ...] = ()
    decoded_per_s: float = 0.0
    embedded_per_s: float = 0.0


def ingest(
    inputs: str | Path | Sequence[str | Path],
    path: str | Path,
    options: IngestOptions | None = None,
    *,
    progress: Progress | None = None,
    **named: Any,
) -> Catalog:
    """Make a catalog of folders and files, and open it; the same call resumes a stopped run.

    inputs: one path or several. All arguments and errors are those of `build_catalog`; its notes are logged as
    warnings.
    """
    several = [inputs] if isinstance(inputs, str | Path) else inputs
    report = build_catalog(several, path, options, progress=progress, **named)
    for note in report.notes:
        _log.warning("%s", note)
    return Catalog.open(path)


def build_catalog(
    inputs: Sequence[str | Path],
    out: str | Path,
    options: IngestOptions | None = None,
    *,
    progress: Progress | None = None,
    **named: Any,
) -> IngestReport:
    """Make a catalog of folders and files, and report on it; the same call resumes a stopped run.

    inputs: files and folders of the kinds of docs/inputs.md; several become one catalog with a column `input`. Ids are
    positions in the input; a row that cannot be read uses up its id and is recorded. Embeddings are scaled to unit
    length. named: fields of `IngestOptions`, which replace those of `options`. progress: called with (stage, done,
    total). Peak anonymous memory is the sum of about 150 bytes per row of two segments (2^20 rows each), 330 kB x D for
    each core (2 GiB at most), 14 x D bytes per row of the sample (100,000 rows at most), and about 1 kB per picture.

    If the catalog exists, only pictures of the same input that could not be read, and have been repaired, are added.
    Raises UsageError if the catalog was made of another input or with other options, or if its input has changed.
    """
    began = time.perf_counter()
    folder = Path(out)
    require_text(folder)
    options = IngestOptions.chosen(options, named)
    model = None if options.codec_from is None else codec_catalog(Path(options.codec_from))
    opened = opened_embedder(options.embedder, identity_in(folder) or ("" if model is None else model.space.embedder))
    made_with = made_with_of(opened, options, model)
    scanned = scan(inputs, options, progress, folder)
    opened = opened if model is None else embedder_of(model, scanned, opened)
    require_embeddable(scanned, opened)
    notes = [note for each in scanned for note in each.notes]
    run = IngestRun(folder / "staging", opened, options.batch_size, progress)
    require_codec(run, scanned, options, model)
    base = 0
    if options.shard is not None:
        scanned, base = Shard.parse(options.shard).cut(scanned)
    with exclusive_run(folder) as stopped:
        history = IngestHistory(Catalog.open(folder)) if (folder / "manifest.json").exists() else None
        if options.fit_only:
            scanned = sampled(scanned)
            catalog, before = _fitted(folder, history, scanned, run, opened, options), 0
        elif history is not None and is_begun(history):
            catalog, before = history.catalog, history.catalog.n
            notes += _ingest_again(history, scanned, made_with, stopped, run)
        else:
            catalog, before = _ingest_all(folder, scanned, base, run, opened, options, model, made_with), 0
        run.remove_staged(scanned)
    return _finish(run, catalog, options.strict, began, before, notes)


def _ingest_again(
    history: IngestHistory, scanned: Sequence[Input], made_with: dict[str, Any], stopped: bool, run: IngestRun
) -> list[str]:
    """Resume a stopped ingest, or add the files of a complete one that can be read now; return messages.

    Nothing is added to a complete shard, because the next ids belong to other shards.
    """
    plan, record = plan_ingest(history, scanned, made_with, stopped)
    if "shard" in made_with and record is None:
        return _left_to_merged(plan)
    _ingest_plan(history.catalog, history, plan, record, run)
    return []


def _ingest_all(
    folder: Path,
    scanned: Sequence[Input],
    base: int,
    run: IngestRun,
    embedder: Embedder | None,
    options: IngestOptions,
    model: Catalog | None,
    made_with: dict[str, Any],
) -> Catalog:
    """Make a catalog, ingest all inputs into it, and return it. base: the first id."""
    if embedder is not None:
        _ = embedder.text_mean  # a model whose texts fail is refused before its pictures are embedded
    source, planned = run.open(_whole_plan(scanned), {})
    record = input_record(scanned, 0, base, source.n, [])
    origin = {"made_with": made_with, **places_of_pictures(scanned, source, {}), "inputs": [record]}
    _forget_begun(folder)
    catalog = _created(folder, source, embedder, options, model, origin, (record["listing"], listing(planned)))
    _append_rows(catalog, source, base, run.progress)
    return catalog


def append(
    directory: str | Path,
    inputs: Sequence[str | Path],
    options: IngestOptions | None = None,
    *,
    new: bool = False,
    progress: Progress | None = None,
    **named: Any,
) -> IngestReport:
    """Add items to a catalog with its own head, statistics and embedder; the same call resumes a stopped run.

    new: add only what is not in the catalog yet; if False, raises UsageError if any part of the input is in it.
    options, named, progress: as for `build_catalog`, without the options that the catalog has fixed: head, d, quantizer
    and keep_embeddings. Pass an embedder only for a catalog that names none; raises SpaceMismatchError if it is not the
    catalog's.
    """
    began = time.perf_counter()
    options = IngestOptions.chosen(options, named)
    options.require_of_append()
    catalog = Catalog.open(directory)
    require_no_shard(catalog, "append")
    options = options_of(catalog, options)
    scanned = scan(inputs, options, progress, catalog.path)
    opened = embedder_of(catalog, scanned, options.embedder)
    require_embeddable(scanned, opened)
    notes = [note for each in scanned for note in each.notes]
    run = IngestRun(catalog.path / "staging", opened, options.batch_size, progress)
    with exclusive_run(catalog.path) as stopped:
        catalog.refresh()
        before, history = catalog.n, IngestHistory(catalog)
        plan, record, plan_notes = plan_append(history, scanned, new, stopped)
        _ingest_plan(catalog, history, plan, record, run)
        run.remove_staged(scanned)
    return _finish(run, catalog, options.strict, began, before, [*notes, *plan_notes])


def _ingest_plan(
    catalog: Catalog,
    history: IngestHistory,
    plan: Sequence[tuple[Input, list[PlannedPiece]]],
    record: int | None,
    run: IngestRun,
) -> None:
    """Ingest the plan. record: the number of the stopped run that is resumed, or None for a new run."""
    if record is None:  # a run that is resumed had all these inputs
        plan = [(each, planned) for each, planned in plan if planned]
    if not plan:
        return
    if catalog.D and catalog.head_path is None:
        raise UsageError(f"append: {catalog.path} has no head to make codes with; give it one by encode --head")
    expected = ("embeddings", catalog.D) if catalog.D else ("codes", catalog.d)
    for each, _ in plan:
        kind, dim = run.shape_of(each)
        if (kind, dim) != expected:
            raise UsageError(f"append: expected {expected[0]} of {expected[1]} dims, got {kind} of {dim}")
    source, planned = run.open(plan, catalog.source)
    entries = list(catalog.source.get("inputs", []))
    base, mended = catalog.next_id, history.unread_ids(history.present(piece for piece, start in planned if start == 0))
    if record is not None:  # the stopped run may have read files that could not be read before
        entry = entries.pop(record)
        base, mended = entry["base"], entry["mended"]
    entry = input_record([each for each, _ in plan], catalog.generation + 1, base, source.n, mended)
    places = places_of_pictures([each for each, _ in plan], source, catalog.source)
    catalog.set_source({**catalog.source, **places, "inputs": [*entries, entry]}, (entry["listing"], listing(planned)))
    _append_rows(catalog, source, base, run.progress)


def _fitted(
    folder: Path,
    history: IngestHistory | None,
    sample: Sequence[Input],
    run: IngestRun,
    embedder: Embedder | None,
    options: IngestOptions,
) -> Catalog:
    """Make an empty catalog with a codec fitted to a sample. Raises UsageError if there already is a catalog."""
    if history is not None:
        raise UsageError(f"{folder}: there is a catalog already; choose another folder for --fit-only")
    source, _ = run.open(_whole_plan(sample), {})
    return _created(folder, source, embedder, options, None, {}, None)


def _whole_plan(scanned: Sequence[Input]) -> list[tuple[Input, list[PlannedPiece]]]:
    return [(each, [(piece, piece.start) for piece in each.pieces]) for each in scanned]


def _left_to_merged(plan: Sequence[tuple[Input, list[PlannedPiece]]]) -> list[str]:
    """Return a message if pictures of a shard could not be read before and can be now."""
    count = sum(len(planned) for _, planned in plan)
    what = "1 picture that" if count == 1 else f"{count:,} pictures that"
    return [f"{what} could not be read can be now; ingest into the merged catalog to add"] if count else []


def _created(
    folder: Path,
    source: RowSource,
    embedder: Embedder | None,
    options: IngestOptions,
    model: Catalog | None,
    origin: dict[str, Any],
    recorded: tuple[str, bytes] | None,
) -> Catalog:
    """Make an empty catalog for a source. model: the catalog to take the codec from; None: fit it to the source."""
    base = origin["inputs"][0]["base"] if origin else 0
    if model is not None:
        return Catalog.create_like(folder, model, source=origin, listing=recorded, next_id=base)
    return Catalog.create_for(
        folder,
        source,
        embedder=embedder,
        head=options.head,
        d=options.d,
        quantizer=options.quantizer,
        keep_embeddings=options.keep_embeddings,
        origin=origin,
        listing=recorded,
        next_id=base,
    )


def _forget_begun(folder: Path) -> None:
    """Remove the manifest of an ingest that was stopped before its first rows; the files will be written again."""
    (folder / "manifest.json").unlink(missing_ok=True)
    sync_folder(folder)


def _append_rows(catalog: Catalog, source: RowSource, first_id: int, progress: Progress) -> None:
    catalog.append_source(source, first_id=first_id, report=lambda done, total: progress("encoding", done, total))


def _finish(
    run: IngestRun, catalog: Catalog, strict: bool, began: float, before: int, notes: Sequence[str]
) -> IngestReport:
    count = catalog.n_errors
    if strict and count:
        first = catalog.errors(1)[0]
        raise DataError(
            f"{catalog.path}: {count} inputs could not be read, the others are in the catalog; the first is "
            f"{first['path'] or first['id']}: {first['reason']}"
        )
    return IngestReport(
        catalog.n,
        count,
        time.perf_counter() - began,
        catalog.n - before,
        tuple(notes),
        run.rates.decoded_per_s,
        run.rates.embedded_per_s,
    )
