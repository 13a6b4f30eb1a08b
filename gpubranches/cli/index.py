"""The command that builds the index of the kdtree backend."""

from __future__ import annotations

import time
from pathlib import Path

import click

from gpubranches.cli.options import catalog_argument, json_option, print_json, progress_bar


@click.command()
@catalog_argument
@click.option(
    "--threads",
    default=None,
    type=click.IntRange(1),
    help="Number of trees that are built at a time; all cores by default.",
)
@json_option
def index(directory: Path, threads: int | None, as_json: bool) -> None:
    """Build the index of the kdtree backend, in place of an older one.

    Build it again after append, compact and encode. If a build is stopped, the older index stays.
    """
    from gpubranches import Catalog
    from gpubranches.engines.kdtree.build import build_index

    catalog = Catalog.open(directory)
    start = time.perf_counter()
    with progress_bar() as report:
        manifest = build_index(catalog, threads=threads, report=report)
    seconds = time.perf_counter() - start
    n, size = manifest["n"], sum(entry["bytes"] for entry in manifest["files"].values())
    trees = len(manifest["trees"])
    if as_json:
        print_json({"catalog": str(directory), "n": n, "trees": trees, "bytes": size, "seconds": seconds})
        return
    click.echo(
        f"{directory}: {trees} trees over {n:,} items, {size / max(n, 1):.0f} bytes per item, in {seconds:.1f} s."
    )
