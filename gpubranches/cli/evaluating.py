"""The commands that measure: how well answers are found on a labelled catalog, and what codes are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpubranches.cli.evaluating_codes import codes
from gpubranches.cli.options import (
    backend_option,
    json_option,
    opened_backend,
    print_json,
    progress_bar,
)
from gpubranches.cli.sections import embedder_or_none, parse_counts, print_sections
from gpubranches.errors import BackendUnavailableError

if TYPE_CHECKING:
    from gpubranches.evaluation.report import Report


class _ModelsUnlessNamed(click.Group):
    """A group whose command `models` is meant where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["models", *args])


@click.group(cls=_ModelsUnlessNamed, subcommand_metavar="[models|codes] CATALOG ...")
def evaluate() -> None:
    """Measure on a catalog how well answers are found, or what its codes are worth.

    `evaluate CATALOG` is `evaluate models CATALOG`; a catalog whose folder is called models or codes is named
    ./models or ./codes. `evaluate models --help` and `evaluate codes --help` tell their options.
    """


@evaluate.command()
@click.argument("directory", metavar="CATALOG", type=click.Path(path_type=Path))
@click.option("--models", "model_names", metavar="NAMES", help="all, or short names such as text,ensemble,refine.")
@click.option("--positives", default="4,8,15,22", show_default=True, help="Items marked right, at most.")
@click.option("--seeds", default=2, show_default=True, type=click.IntRange(1), help="Draws a concept.")
@click.option("--concepts", "subset", type=click.IntRange(1), help="A random subset of so many; all by default.")
@click.option("--columns", default="dataset,label", show_default=True, help="Columns that tell the classes apart.")
@click.option("--name", default="caption", show_default=True, help="The column with the classes' names.")
@click.option("--fewest", default=34, show_default=True, type=click.IntRange(2), help="Items of a class, at least.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(0), help="Rounds of marking; 0: none.")
@click.option(
    "--policies",
    default="suggested,best,random,uncertain",
    show_default=True,
    help="How the rounds choose what to mark.",
)
@click.option("--against", metavar="NAME", help="The model to subtract the others from: refine, else the last.")
@click.option("--embedder", metavar="SPEC", help="As for ingest; none: every concept is asked for by its mean.")
@backend_option
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Tables, JSON and plots.")
@json_option
def models(
    directory: Path,
    model_names: str | None,
    positives: str,
    subset: int | None,
    columns: str,
    name: str,
    fewest: int,
    policies: str,
    against: str | None,
    embedder: str | None,
    backend: str,
    out: Path | None,
    as_json: bool,
    **sizes: int,
) -> None:
    """Play a simulated user on a labelled catalog and compare models on the same marks.

    A concept is a class of the catalog's metadata. The user asks for it, marks what is right and wrong on the first
    page, and every model answers over the whole catalog from the same marks; then rounds of marking are played.
    """
    from gpubranches import Catalog
    from gpubranches.catalog.storage import disk_errors
    from gpubranches.evaluation.models import USUAL, choose_models
    from gpubranches.evaluation.protocol import World, asks, find_concepts, random_subset
    from gpubranches.evaluation.report import reference_among
    from gpubranches.evaluation.rounds import choose_policies

    chosen = choose_models(model_names if model_names is not None else ",".join(USUAL))
    chosen_policies = choose_policies(policies)
    against = reference_among(list(chosen), against)
    counts = parse_counts(positives, "--positives")
    catalog = Catalog.open(directory)
    if catalog.has_embeddings and not catalog.stores_embeddings:
        click.echo(
            f"{directory} stores no embeddings; models on embeddings see those decoded from its codes.", err=True
        )
    if out is not None:
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
    opened_embedder = embedder_or_none(catalog, embedder)
    with opened_backend(backend, catalog) as opened:
        world = World(catalog, opened, opened_embedder)
        words = tuple(word.strip() for word in columns.split(",") if word.strip())
        found = find_concepts(catalog, asks(opened_embedder), columns=words, name=name, fewest=fewest)
        found = random_subset(found, subset)
        report = _play(world, found, chosen, counts, chosen_policies, against=against, **sizes)
    _show(report, out, directory, as_json)


def _play(
    world: Any,
    concepts: Any,
    models: Any,
    counts: tuple[int, ...],
    policies: Any,
    *,
    against: str,
    seeds: int,
    rounds: int,
) -> Report:
    from gpubranches.evaluation.comparison import evaluate as compare
    from gpubranches.evaluation.report import Report
    from gpubranches.evaluation.rounds import play_rounds

    with progress_bar() as bar:
        compared = compare(
            world,
            concepts,
            models=models,
            positives=counts,
            seeds=seeds,
            progress=lambda done, total: bar("models", done, total),
        )
        played = None
        if rounds:
            played = play_rounds(
                world,
                concepts,
                policies=policies,
                rounds=rounds,
                seeds=seeds,
                progress=lambda done, total: bar("rounds", done, total),
            )
    return Report(world.n, concepts, compared, played, against, {"backend": world.backend.name})


def _show(report: Report, out: Path | None, directory: Path, as_json: bool) -> None:
    if out is not None:
        from gpubranches.evaluation.plots import draw

        report.write(out, f"Evaluation of {directory.resolve().name}")
        try:
            pictures = len(draw(report, out))
        except BackendUnavailableError as error:
            pictures = 0
            click.echo(f"No plots: {error}", err=True)
    if as_json:
        print_json(report.to_json())
        return
    print_sections(report.introduction(), report.sections())
    if out is not None:
        click.echo(f"Wrote evaluation.md, evaluation.json and {pictures} plots to {out}.")


evaluate.add_command(codes)
COMMANDS = (evaluate,)
