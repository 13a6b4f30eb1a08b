"""The commands that make a catalog of inputs, add to it, relocate its pictures, and replace its codes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpubranches.cli.options import (
    as_object,
    catalog_argument,
    embedder_option,
    for_terminal,
    json_option,
    print_json,
    progress_bar,
)
from gpubranches.encoders.quantizers import QUANTIZERS
from gpubranches.errors import UsageError
from gpubranches.ingestion.inputs import KINDS
from gpubranches.ingestion.options import DIMS, FRAMES_AT, FRAMES_EVERY_S, IngestOptions

if TYPE_CHECKING:
    from gpubranches.ingestion import IngestReport, SyncReport


def _kinds() -> str:
    """Return one paragraph for each kind of input."""
    kinds = [f"{kind.title}: {kind.given}." for kind in KINDS]
    stores = "All but videos and clip-retrieval may be in a store, with [remote]: s3://, gs://, az://, hf://, https://."
    return "\n\n".join(["An input is one of these:", *kinds, stores])


inputs_argument = click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path())
dims_option = click.option(
    "--dims",
    "d",
    default=DIMS,
    show_default=True,
    type=click.IntRange(4, 1024),
    help="Dims of the codes by rca and pca, a multiple of 4.",
)
quantizer_option = click.option(
    "--quantizer",
    default=None,
    type=click.Choice(QUANTIZERS),
    help="The range of each dim that the codes cover: all, or quantiles of a sample; the default depends on the head.",
)
_codec_options = (
    click.option(
        "--head",
        default=None,
        metavar="HEAD",
        help="The map from embeddings to codes: rca (the default), pca, none, or a trained head's FILE.",
    ),
    dims_option,
    quantizer_option,
    click.option(
        "--frames-every",
        default=FRAMES_EVERY_S,
        show_default=True,
        metavar="SECONDS",
        type=click.FloatRange(0.01, 86_400),
        help="The time between two frames of a video.",
    ),
    click.option(
        "--frames-at",
        default=FRAMES_AT[0],
        show_default=True,
        type=click.Choice(FRAMES_AT),
        help="The frames of a video: at even times, or at scene changes and every SECONDS of a longer scene.",
    ),
    click.option(
        "--no-embeddings",
        "keep_embeddings",
        is_flag=True,
        callback=lambda context, option, value: not value,
        help="Store no embeddings, and decode them from the codes; needs the FILE of a trained head.",
    ),
    click.option(
        "--codec-from",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Use the head, quantizers and embedder of this catalog.",
    ),
    click.option(
        "--shard",
        metavar="I/N",
        help="Ingest only the I-th of N parts of the input; merge joins them. Needs --codec-from.",
    ),
    click.option(
        "--fit-only",
        is_flag=True,
        help="Fit head and quantizers to a sample of the input, for --codec-from; add no items.",
    ),
)
"""The options that a catalog fixes for all its items."""
_input_options = (
    click.option(
        "--pictures",
        metavar="ROOT",
        type=click.Path(),
        help="The folder or address of the pictures that metadata name; by default the program looks for the folder.",
    ),
    click.option("--strict", is_flag=True, help="Exit with an error at the end if an item could not be read."),
    click.option(
        "--batch-size",
        default=None,
        type=click.IntRange(1),
        help="Images that are embedded together; the default depends on the model: 64, or 256 on a GPU.",
    ),
)


@click.command(epilog=_kinds())
@inputs_argument
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="The catalog to make.")
@as_object("options", IngestOptions, embedder_option, *_codec_options, *_input_options)
@click.option(
    "--cluster",
    metavar="HOST:PORT",
    help="Make shards on a Ray cluster, in the folder of --out; this machine must be one of its nodes.",
)
@click.option(
    "--shards", type=click.IntRange(1), help="Number of shards on the cluster; by default one per node or card."
)
@click.option("--gpus", metavar="N|all", help="Number of cards to use on the cluster; without it, CPUs are used.")
@json_option
def ingest(
    inputs: tuple[str, ...],
    out: Path,
    options: IngestOptions,
    cluster: str | None,
    shards: int | None,
    gpus: str | None,
    as_json: bool,
) -> None:
    """Make a catalog of pictures or embeddings in folders, tars, tables, videos or arrays.

    The same command resumes a stopped run. The id of an item is its position in the input. If the catalog of this input
    exists, only pictures that could not be read before and can be read now are added.
    """
    if cluster is not None:
        _ingest_on_cluster(inputs, out, cluster, options, shards, gpus, as_json)
        return
    if shards is not None or gpus is not None:
        raise UsageError("ingest: expected --shards and --gpus only with --cluster; leave them out")
    from gpubranches.ingestion import build_catalog

    with progress_bar() as progress:
        report = build_catalog(inputs, out, options, progress=progress)
    _print_report(out, report, as_json, fitted=options.fit_only)


def _ingest_on_cluster(
    inputs: tuple[str, ...],
    out: Path,
    cluster: str,
    options: IngestOptions,
    shards: int | None,
    gpus: str | None,
    as_json: bool,
) -> None:
    from gpubranches.ingestion.on_cluster import ingest_on_cluster

    cards = int(gpus) if gpus is not None and gpus.isdecimal() else gpus
    with progress_bar() as progress:
        report = ingest_on_cluster(inputs, out, cluster, options, shards=shards, gpus=cards, progress=progress)
    _print_report(out, report, as_json)
    if not as_json:
        click.echo(f"Join the shards by `gpubranches merge CATALOG {out}/shard-*`.")


@click.command()
@catalog_argument
@inputs_argument
@click.option("--new", is_flag=True, help="Add only what the catalog does not have yet, and print what was added.")
@as_object("options", IngestOptions, embedder_option, *_input_options)
@json_option
def append(directory: Path, inputs: tuple[str, ...], new: bool, options: IngestOptions, as_json: bool) -> None:
    """Add items to a catalog, with its own model and codes; give --embedder if it names no model.

    Input that the catalog already has is refused, or skipped with --new. The same command resumes a stopped run.
    """
    from gpubranches.ingestion import append as add_items

    with progress_bar() as progress:
        report = add_items(directory, inputs, options, new=new, progress=progress)
    _print_report(directory, report, as_json)


@click.command()
@catalog_argument
@inputs_argument
@click.option("--watch", "watched", is_flag=True, help="Sync after every change, until Ctrl-C; needs [watch].")
@click.option("--force", is_flag=True, help="Delete items even if more than half of an input's items are missing.")
@as_object("options", IngestOptions, embedder_option, *_input_options)
@json_option
def sync(
    directory: Path, inputs: tuple[str, ...], watched: bool, force: bool, options: IngestOptions, as_json: bool
) -> None:
    """Make a catalog equal to its inputs: add new files, embed changed files again, delete missing ones.

    A file that was moved keeps its ids and marks. Other inputs of the catalog do not change.
    """
    from gpubranches.ingestion import sync as make_equal
    from gpubranches.ingestion import watch

    with progress_bar() as progress:
        if not watched:
            _print_sync(directory, make_equal(directory, inputs, options, force=force, progress=progress), as_json)
            return
        for number, report in enumerate(watch(directory, inputs, options, force=force, progress=progress)):
            if report.did_anything or number == 0:
                _print_sync(directory, report, as_json)


@click.command()
@catalog_argument
@click.argument("before", metavar="OLD", type=click.Path())
@click.argument("after", metavar="NEW", type=click.Path())
@json_option
def relocate(directory: Path, before: str, after: str, as_json: bool) -> None:
    """Record in a catalog that the pictures of the folder OLD are now in the folder NEW."""
    from gpubranches.ingestion import relocate as look_elsewhere

    report = look_elsewhere(directory, before, after)
    if as_json:
        print_json({"catalog": str(directory), **asdict(report)})
    else:
        click.echo(
            f"Of {report.looked_at:,} checked items, {report.there:,} have a picture now; {report.before:,} had one."
        )


@click.command()
@catalog_argument
@click.option(
    "--head",
    default=None,
    metavar="HEAD",
    help="The map from embeddings to codes: rca, pca, none, or a trained head's FILE; by default the catalog's own.",
)
@dims_option
@quantizer_option
@json_option
def encode(directory: Path, head: str | None, d: int, quantizer: str | None, as_json: bool) -> None:
    """Make the codes of a catalog again from its embeddings, with another head or quantizer.

    All else stays. The old codes are served until the new ones are complete; a stopped run changes nothing.
    """
    from gpubranches.ingestion.encode import encode as make_codes

    with progress_bar() as progress:
        report = make_codes(directory, head=head, quantizer=quantizer, d=d, progress=progress)
    if as_json:
        print_json({"catalog": str(directory), **asdict(report)})
    elif report.changed:
        click.echo(f"{directory}: {report.n:,} items have new codes of {report.d} dims, in {report.seconds:.1f} s.")
    else:
        click.echo(f"{directory}: nothing to do, because the codes are already made by this head and quantizer.")


def _print_sync(directory: Path, report: SyncReport, as_json: bool) -> None:
    for note in report.notes:
        click.echo(for_terminal(f"Note: {note}."), err=True)
    if as_json:
        print_json({"catalog": str(directory), **asdict(report)})
        return
    counts = ", ".join(f"{getattr(report, name):,} {name}" for name in ("added", "changed", "moved", "removed"))
    click.echo(f"{directory}: {report.n:,} items; {counts}, in {report.seconds:.1f} s.")
    _print_errors(directory, report.errors)


def _print_report(out: Path, report: IngestReport, as_json: bool, *, fitted: bool = False) -> None:
    for note in report.notes:
        click.echo(for_terminal(f"Note: {note}."), err=True)
    if as_json:
        print_json({"catalog": str(out), **asdict(report)})
        return
    if fitted:
        click.echo(f"{out}: head and quantizers are fitted, in {report.seconds:.1f} s; pass it to ingest --codec-from.")
        return
    nothing = "" if report.added else "; nothing was new"
    click.echo(f"{out}: {report.n:,} items in {report.seconds:.1f} s{nothing}.")
    if report.embedded_per_s:
        slower = "decoding" if report.decoded_per_s < report.embedded_per_s else "the model"
        click.echo(
            f"Pictures per second: {report.decoded_per_s:,.0f} decoded, {report.embedded_per_s:,.0f} embedded, each "
            f"counted only while it was working; {slower} is slower."
        )
    _print_errors(out, report.errors)


def _print_errors(out: Path, count: int) -> None:
    if count:
        click.echo(f"{count:,} could not be read; `gpubranches info {out} --errors` shows why.")
