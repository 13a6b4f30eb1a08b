"""The commands that describe a catalog, check it, merge several, delete items and export them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from gpubranches.cli.options import (
    catalog_argument,
    for_terminal,
    json_option,
    parse_ids,
    pictures_option,
    print_json,
    progress_bar,
    tell_missing_pictures,
)
from gpubranches.core.files import atomic_file, require_outside_catalogs
from gpubranches.errors import CatalogFormatError, UsageError


@click.command()
@catalog_argument
@click.argument("ids", metavar="IDS|@FILE")
@json_option
def delete(directory: Path, ids: str, as_json: bool) -> None:
    """Delete items by id. Their ids are never used again."""
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
    help="Drop the embeddings for good, and decode them from the codes; needs the codes of a trained head.",
)
def compact(directory: Path, no_embeddings: bool) -> None:
    """Rewrite a catalog without its deleted items, and join small segments."""
    from gpubranches import Catalog

    catalog = Catalog.open(directory)
    catalog.compact(keep_embeddings=not no_embeddings)
    click.echo(f"Compacted to {catalog.n:,} items in {len(catalog.segments)} segments.")


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.argument("parts", metavar="PART...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def merge(out: Path, parts: tuple[Path, ...], as_json: bool) -> None:
    """Make the catalog OUT from catalogs with the same head and disjoint ids, such as those of ingest --shard.

    Nothing is encoded again, and the parts do not change. Their files are linked, or copied to another file system.
    """
    from gpubranches.service.merging import merge as join

    with progress_bar() as progress:
        report = join(out, parts, report=lambda done, total: progress("merging", done, total))
    if as_json:
        print_json({"catalog": str(out), **asdict(report)})
        return
    sessions = f" and {report.sessions:,} sessions" if report.sessions else ""
    copied = (
        f"; {report.copied_bytes:,} bytes were copied, since they could not be linked" if report.copied_bytes else ""
    )
    click.echo(
        for_terminal(f"{out}: {report.n:,} items{sessions} of {report.parts} parts, in {report.seconds:.1f} s{copied}.")
    )


@click.command()
@catalog_argument
@click.option("--errors", "list_errors", is_flag=True, help="List the items that could not be read, and why.")
@click.option(
    "--backend", type=click.Choice(["gpu"]), help="Also print what this backend would store in the card's memory."
)
@pictures_option
@click.option("--missing", is_flag=True, help="Count the missing pictures of all items, not of a sample.")
@json_option
def info(
    directory: Path, list_errors: bool, backend: str | None, pictures: tuple[str, ...], missing: bool, as_json: bool
) -> None:
    """Print what a catalog holds, and how many pictures are missing."""
    from gpubranches import Catalog
    from gpubranches.service.originals import look_for_pictures

    catalog = Catalog.open(directory)
    catalog.name_pictures(*pictures)
    data = catalog.info()
    if catalog.picture_source["roots"]:
        data["pictures"] = asdict(look_for_pictures(catalog, whole=missing))
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
@click.option("--repair", "fix", is_flag=True, help="Keep the undamaged parts, and print the losses.")
@json_option
def verify(directory: Path, fix: bool, as_json: bool) -> None:
    """Compare all checksums of a catalog, its index and its marks; name the problems and exit with code 3.

    With --repair, the rows of undamaged blocks are rewritten, and damaged segments are moved to the folder `damaged`. A
    damaged manifest or damaged constants can only be restored from a copy. A damaged index is removed.
    """
    from gpubranches import Catalog
    from gpubranches.service.soundness import problems, repair

    lost = repair(directory) if fix else []
    found = problems(directory)
    if as_json:
        print_json({"sound": not found, "problems": found, **({"given_up": lost} if fix else {})})
    else:
        for line in [*(f"dropped: {loss}" for loss in lost), *found]:
            click.echo(line)
    if found:
        raise CatalogFormatError(
            f"{directory}: {len(found)} problems found; restore the named files from a copy, ingest again, or keep "
            "the undamaged part by verify --repair"
        )
    if not as_json:
        click.echo("The catalog is sound.")
    tell_missing_pictures(Catalog.open(directory))


@click.command()
@catalog_argument
@click.argument("what", type=click.Choice(["codes", "embeddings", "labels"]))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--session", default=None, help="With labels: only the marks of one session.")
def export(directory: Path, what: str, out: Path, session: str | None) -> None:
    """Write the codes (.u8bin or .parquet), the embeddings (a clip-retrieval folder) or the label log (JSON).

    A .parquet has columns id, c0, c1, ..., over which the SQL of `refine --sql` runs. The matches of a search are
    written by `refine --out`.
    """
    from gpubranches import Catalog
    from gpubranches.ingestion.writers import write_clip_retrieval, write_codes_parquet, write_u8bin
    from gpubranches.service.database import FILE
    from gpubranches.service.labels import Labels, sessions

    if what == "codes" and out.suffix not in (".u8bin", ".parquet"):
        raise UsageError(f"{out}: expected a name that ends in .u8bin or .parquet, got {out.suffix or 'no ending'!r}")
    require_outside_catalogs(out)
    catalog = Catalog.open(directory)
    if what == "labels":
        log = catalog.path / FILE
        names = [session] if session else sessions(log)
        events = [event for name in names for event in Labels.open(log, name).events()]
        with atomic_file(out) as file:
            file.write((json.dumps(events, indent=1) + "\n").encode())
        click.echo(f"Wrote {len(events):,} events of {len(names)} sessions to {out}.")
        return
    ids = catalog.ids
    if what == "codes":
        write = write_codes_parquet if out.suffix == ".parquet" else write_u8bin
        write(out, catalog, ids)
    else:
        if not catalog.stores_embeddings and catalog.has_embeddings:
            click.echo(f"{directory} stores no embeddings; these are decoded from its codes.", err=True)
        write_clip_retrieval(out, catalog, ids)
    click.echo(f"Wrote {len(ids):,} items to {out}.")
