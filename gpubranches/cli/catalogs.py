"""Commands that make, change, check and export catalogs."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console

from gpubranches.cli.options import (
    catalog_argument,
    embedder_option,
    for_terminal,
    json_option,
    parse_ids,
    print_json,
    progress_bar,
    tell_missing_pictures,
)
from gpubranches.core.files import atomic_file, require_outside_catalogs
from gpubranches.encoders.quantizers import QUANTIZERS
from gpubranches.errors import CatalogFormatError, UsageError

if TYPE_CHECKING:
    from gpubranches.ingestion import IngestReport

inputs_argument = click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
strict_option = click.option("--strict", is_flag=True, help="Fail at the end if any item was broken.")
pictures_option = click.option(
    "--pictures",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="The folder of the pictures that clip-retrieval folders name; by default it is searched.",
)
batch_option = click.option(
    "--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Images a batch."
)
dims_option = click.option(
    "--dims", "d", default=32, show_default=True, type=click.IntRange(4, 1024), help="Code dims of rca and pca."
)
quantizer_option = click.option(
    "--quantizer",
    default=None,
    type=click.Choice(QUANTIZERS),
    help="What the values of each dim cover: the head's range, or its quantiles in a sample; by default as suits it.",
)


@click.command()
@inputs_argument
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="The catalog to make.")
@embedder_option
@click.option(
    "--head", default=None, metavar="HEAD", help="rca (the default for embeddings), pca, none, or a head's FILE."
)
@dims_option
@quantizer_option
@click.option(
    "--no-embeddings",
    is_flag=True,
    help="Store codes and bits alone, and decode embeddings from the codes; needs a head's FILE.",
)
@pictures_option
@strict_option
@batch_option
@json_option
def ingest(
    inputs: tuple[Path, ...],
    out: Path,
    embedder: str | None,
    head: str | None,
    d: int,
    quantizer: str | None,
    no_embeddings: bool,
    pictures: Path | None,
    strict: bool,
    batch_size: int,
    as_json: bool,
) -> None:
    """Make a catalog of image folders, clip-retrieval folders, .npy, .u8bin or .fbin files.

    The same command resumes a stopped run. Ids are positions in the input. If the catalog of this input exists, only
    pictures that were broken and are repaired now are added.
    """
    from gpubranches.ingestion import build_catalog

    with progress_bar() as progress:
        report = build_catalog(
            inputs,
            out,
            embedder=embedder,
            head=head,
            d=d,
            quantizer=quantizer,
            keep_embeddings=not no_embeddings,
            pictures=pictures,
            strict=strict,
            batch_size=batch_size,
            progress=progress,
        )
    _print_report(out, report, as_json)


@click.command()
@catalog_argument
@inputs_argument
@click.option("--new", is_flag=True, help="Add only what the catalog does not have yet, and print what that is.")
@embedder_option
@pictures_option
@strict_option
@batch_option
@json_option
def append(
    directory: Path,
    inputs: tuple[Path, ...],
    new: bool,
    embedder: str | None,
    pictures: Path | None,
    strict: bool,
    batch_size: int,
    as_json: bool,
) -> None:
    """Add items to a catalog, with its own model and constants; --embedder for a catalog that names no model.

    Input that the catalog already has is refused, or skipped with --new. The same command resumes a stopped run.
    """
    from gpubranches.ingestion import append as add_items

    with progress_bar() as progress:
        report = add_items(
            directory,
            inputs,
            new=new,
            embedder=embedder,
            pictures=pictures,
            strict=strict,
            batch_size=batch_size,
            progress=progress,
        )
    _print_report(directory, report, as_json)


@click.command()
@catalog_argument
@click.argument("before", metavar="OLD", type=click.Path(path_type=Path))
@click.argument("after", metavar="NEW", type=click.Path(path_type=Path))
@json_option
def relocate(directory: Path, before: Path, after: Path, as_json: bool) -> None:
    """Make a catalog look in the folder NEW for the pictures that were in OLD."""
    from gpubranches.ingestion import relocate as look_elsewhere

    report = look_elsewhere(directory, before, after)
    if as_json:
        print_json({"catalog": str(directory), **asdict(report)})
    else:
        click.echo(
            f"Of {report.looked_at:,} checked items, {report.there:,} have a picture; {report.before:,} had one."
        )


@click.command()
@catalog_argument
@click.option(
    "--head", default=None, metavar="HEAD", help="rca, pca, none, or a head's FILE; by default the catalog's own."
)
@dims_option
@quantizer_option
@json_option
def encode(directory: Path, head: str | None, d: int, quantizer: str | None, as_json: bool) -> None:
    """Make a catalog's codes anew from its embeddings, with another head or quantizer; all else stays.

    The old codes are served until the new ones are complete; a stopped run changes nothing.
    """
    from gpubranches.ingestion.encode import encode as make_codes

    with progress_bar() as progress:
        report = make_codes(directory, head=head, quantizer=quantizer, d=d, progress=progress)
    if as_json:
        print_json({"catalog": str(directory), **asdict(report)})
    elif report.changed:
        click.echo(f"{directory}: {report.n:,} items have new codes of {report.d} dims, in {report.seconds:.1f} s.")
    else:
        click.echo(f"{directory}: nothing to do, the codes are by this head and quantizer already.")


@click.command()
@catalog_argument
@click.argument("ids", metavar="IDS|@FILE")
@json_option
def delete(directory: Path, ids: str, as_json: bool) -> None:
    """Delete items; their ids are never used again."""
    from gpubranches import Catalog

    count = Catalog.open(directory).delete(parse_ids(ids, "ids"))
    if as_json:
        print_json({"deleted": count})
    else:
        click.echo(f"Deleted {count:,} items.")


@click.command()
@catalog_argument
@click.option(
    "--no-embeddings",
    is_flag=True,
    help="Drop the embeddings for good, and decode them from the codes; needs codes by a head with a decoder.",
)
def compact(directory: Path, no_embeddings: bool) -> None:
    """Rewrite a catalog without its deleted items, small segments joined."""
    from gpubranches import Catalog

    catalog = Catalog.open(directory)
    catalog.compact(keep_embeddings=not no_embeddings)
    click.echo(f"Compacted to {catalog.n:,} items in {len(catalog.segments)} segments.")


@click.command()
@catalog_argument
@click.option("--errors", "list_errors", is_flag=True, help="List the items that could not be read, with reasons.")
@click.option("--backend", type=click.Choice(["gpu"]), help="Also plan the memory of this backend.")
@json_option
def info(directory: Path, list_errors: bool, backend: str | None, as_json: bool) -> None:
    """Tell what a catalog holds, and with --backend gpu what of it fits into the card's memory."""
    from gpubranches import Catalog

    catalog = Catalog.open(directory)
    data = catalog.info()
    if list_errors:
        data["errors"] = catalog.errors()
    if backend == "gpu":
        from gpubranches.engines.gpu.cupy_device import CupyDevice
        from gpubranches.engines.gpu.measured_times import Measured, choose
        from gpubranches.engines.gpu.memory import MemoryPlan

        device = CupyDevice()
        plan = MemoryPlan.of(catalog, *device.memory())
        engine, why = choose(Measured.read(), device.name, plan.tiers, catalog.n, 100, 1)
        data["gpu"] = {"device": device.name, **plan.to_json(), "nearest": {"embeddings": engine, "why": why}}
        device.close()
    if as_json:
        print_json(data)
    else:
        Console().print_json(json.dumps(data), ensure_ascii=True)


@click.command()
@catalog_argument
@click.option("--repair", "mend", is_flag=True, help="Keep what is undamaged, and print what is dropped.")
@json_option
def verify(directory: Path, mend: bool, as_json: bool) -> None:
    """Check all checksums and the consistency of a catalog, its index and marks; name problems and exit with code 3.

    With --repair, rows in undamaged blocks are rewritten, and damaged segments are moved to the folder `damaged`. A
    damaged manifest or damaged constants can only be restored from a copy. A damaged index is removed.
    """
    from gpubranches.catalog import Catalog, problems_at, repair
    from gpubranches.engines.kdtree.files import FOLDER
    from gpubranches.engines.kdtree.files import problems as index_problems
    from gpubranches.service.database import problems as marks_problems

    given_up: list[str] = []
    if mend:
        given_up = repair(directory)
        if index_problems(directory / FOLDER):
            shutil.rmtree(directory / FOLDER)
            given_up.append(f"{FOLDER}: build it again with `gpubranches index`")
    problems = problems_at(directory) + index_problems(directory / FOLDER)
    problems += marks_problems(directory / "labels.sqlite")
    if as_json:
        print_json({"sound": not problems, "problems": problems, **({"given_up": given_up} if mend else {})})
    else:
        for line in [*(f"dropped: {loss}" for loss in given_up), *problems]:
            click.echo(line)
    if problems:
        raise CatalogFormatError(
            f"{directory}: {len(problems)} problems found; restore the named files from a copy, ingest again, or keep "
            "the undamaged part by verify --repair"
        )
    if not as_json:
        click.echo("The catalog is sound.")
    tell_missing_pictures(Catalog.open(directory))


@click.command()
@catalog_argument
@click.argument("what", type=click.Choice(["codes", "embeddings", "labels"]))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--session", default=None, help="labels: only those of one session.")
def export(directory: Path, what: str, out: Path, session: str | None) -> None:
    """Write the codes (.u8bin or .parquet), the embeddings (a clip-retrieval folder) or the label log (JSON).

    A .parquet has columns id, c0, c1, ..., over which the SQL of `refine --sql` runs. The matches of a search are
    written by `refine --out`.
    """
    from gpubranches import Catalog
    from gpubranches.ingestion.writers import write_clip_retrieval, write_codes_parquet, write_u8bin
    from gpubranches.service.labels import Labels, sessions

    if what == "codes" and out.suffix not in (".u8bin", ".parquet"):
        raise UsageError(f"{out}: expected a name that ends in .u8bin or .parquet, got {out.suffix or 'no ending'!r}")
    require_outside_catalogs(out)
    catalog = Catalog.open(directory)
    if what == "labels":
        log = catalog.path / "labels.sqlite"
        names = [session] if session else sessions(log)
        events = [event for name in names for event in Labels.open(log, name).events()]
        with atomic_file(out) as file:
            file.write((json.dumps(events, indent=1) + "\n").encode())
        click.echo(f"Wrote {len(events):,} events of {len(names)} sessions to {out}.")
        return
    ids = np.sort(np.concatenate([np.asarray(segment.ids) for segment in catalog.segments] or [np.zeros(0, np.int64)]))
    ids = ids[catalog.alive(ids)]
    if what == "codes":
        write = write_codes_parquet if out.suffix == ".parquet" else write_u8bin
        write(out, catalog, ids)
    else:
        if not catalog.stores_embeddings and catalog.has_embeddings:
            click.echo(f"{directory} stores no embeddings; these are decoded from its codes.", err=True)
        write_clip_retrieval(out, catalog, ids)
    click.echo(f"Wrote {len(ids):,} items to {out}.")


def _print_report(out: Path, report: IngestReport, as_json: bool) -> None:
    for note in report.notes:
        click.echo(for_terminal(f"Note: {note}."), err=True)
    if as_json:
        print_json({"catalog": str(out), **asdict(report)})
        return
    nothing = "" if report.added else "; nothing was new"
    click.echo(f"{out}: {report.n:,} items in {report.seconds:.1f} s{nothing}.")
    if report.errors:
        click.echo(f"{report.errors:,} could not be read; `gpubranches info {out} --errors` shows why.")
