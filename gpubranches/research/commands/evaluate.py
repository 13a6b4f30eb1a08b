"""The commands that measure: how well answers are found on a labelled catalog, and what codes are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpubranches.cli.options import backend_option, json_option, opened_backend, progress_bar
from gpubranches.research.commands.evaluate_codes import codes
from gpubranches.research.commands.evaluate_demo import demo
from gpubranches.research.commands.sections import embedder_or_none, make_folder, parse_columns, parse_counts, show

if TYPE_CHECKING:
    from gpubranches import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.research.quality import Concept, LabelledCatalog
    from gpubranches.research.quality.report import Report
    from gpubranches.research.quality.users import User


class _ModelsUnlessNamed(click.Group):
    """A command group that runs its command `models` if no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["models", *args])


@click.group(cls=_ModelsUnlessNamed, subcommand_metavar="[models|codes|demo] CATALOG ...")
def evaluate() -> None:
    """Measure on a catalog how well answers are found, or what its codes are worth.

    `evaluate CATALOG` is `evaluate models CATALOG`; a catalog whose folder is called models or codes is named ./models
    or ./codes. `evaluate models --help` and `evaluate codes --help` list their options.
    """


@evaluate.command()
@click.argument("directory", metavar="CATALOG", type=click.Path(path_type=Path))
@click.option("--models", "model_names", metavar="NAMES", help="all, or short names such as text,ensemble,refine.")
@click.option("--positives", metavar="NUMBERS", help="Most items marked right: 4,8,15,22, or 8 for groups.")
@click.option("--seeds", default=2, show_default=True, type=click.IntRange(1), help="Number of draws for each concept.")
@click.option("--concepts", "subset", type=click.IntRange(1), help="Size of a random subset; all concepts by default.")
@click.option("--columns", default="dataset,label", show_default=True, help="Columns whose values define a class.")
@click.option("--name", default="caption", show_default=True, help="The column with the names of the classes.")
@click.option(
    "--fewest", default=34, show_default=True, type=click.IntRange(2), help="Least number of items of a class."
)
@click.option(
    "--groups",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A JSON file of groups of classes, which are the concepts instead of the classes.",
)
@click.option("--unions", metavar="N", type=click.IntRange(1), help="Add N random unions of classes as concepts.")
@click.option("--union-seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the unions.")
@click.option(
    "--user", "user_name", metavar="NAME", help="random, page or right-only; by default random, page for groups."
)
@click.option("--rounds", type=click.IntRange(0), help="Rounds of marking, 0 for none; by default 5, 4 for groups.")
@click.option("--policies", metavar="NAMES", help="How items are chosen in the rounds; also models with a cut.")
@click.option(
    "--against", metavar="NAME", help="The model to compare the others with; by default refine, else the last."
)
@click.option("--embedder", metavar="SPEC", help="As for ingest; none: each query is the mean of the items.")
@backend_option
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Tables, JSON and plots.")
@json_option
def models(
    directory: Path,
    subset: int | None,
    against: str | None,
    embedder: str | None,
    backend: str,
    out: Path | None,
    as_json: bool,
    seeds: int,
    rounds: int | None,
    **named: Any,
) -> None:
    """Play a simulated user on a labelled catalog and compare models on the same marks.

    A concept is a class of the catalog's metadata, or a group of classes. The user searches for it and marks right and
    wrong items on the first page. Every model answers over the whole catalog from the same marks. Then rounds of
    marking follow.
    """
    from gpubranches import Catalog
    from gpubranches.research.quality.concepts import random_subset
    from gpubranches.research.quality.labelled_catalog import LabelledCatalog
    from gpubranches.research.quality.plots import draw
    from gpubranches.research.quality.report import reference_among

    wide = named["groups"] is not None or named["unions"] is not None
    played = _players(wide, **{key: named.pop(key) for key in ("model_names", "positives", "policies", "user_name")})
    against = reference_among(list(played["models"]), against)
    rounds = (4 if wide else 5) if rounds is None else rounds
    catalog = Catalog.open(directory)
    if catalog.has_embeddings and not catalog.stores_embeddings:
        click.echo(
            f"{directory} stores no embeddings; models on embeddings see those decoded from its codes.", err=True
        )
    make_folder(out)
    opened_embedder = embedder_or_none(catalog, embedder)
    with opened_backend(backend, catalog) as opened:
        labelled = LabelledCatalog(catalog, opened, opened_embedder)
        found = random_subset(_concepts(catalog, opened_embedder, **named), subset)
        report = _play(labelled, found, against=against, seeds=seeds, rounds=rounds, **played)
    show(report, f"Evaluation of {directory.resolve().name}", draw, out, as_json=as_json)


def _players(
    wide: bool, model_names: str | None, positives: str | None, policies: str | None, user_name: str | None
) -> dict[str, Any]:
    """Return the choices by name, with defaults for classes or, if `wide`, for groups of classes."""
    from gpubranches.research.quality import models, rounds, users

    usual_models, usual_policies = (models.BROAD, rounds.BROAD) if wide else (models.USUAL, tuple(rounds.POLICIES))
    return {
        "models": models.choose_models(",".join(usual_models) if model_names is None else model_names),
        "policies": rounds.choose_policies(",".join(usual_policies) if policies is None else policies),
        "counts": parse_counts(("8" if wide else "4,8,15,22") if positives is None else positives, "--positives"),
        "user": users.choose_user(("page" if wide else "random") if user_name is None else user_name),
    }


def _concepts(
    catalog: Catalog,
    embedder: Embedder | None,
    *,
    columns: str,
    name: str,
    fewest: int,
    groups: Path | None,
    unions: int | None,
    union_seed: int,
) -> list[Concept]:
    """Return the groups of a file and the unions drawn, or the classes if neither is requested."""
    from gpubranches.research.quality.concepts import askable_by, find_concepts
    from gpubranches.research.quality.groups import find_groups, random_unions, read_groups

    words = parse_columns(columns)
    if groups is None and unions is None:
        return find_concepts(catalog, askable_by(embedder), columns=words, name=name, fewest=fewest)
    found: list[Concept] = []
    if groups is not None:
        known = None if embedder is None else askable_by(embedder)
        found += find_groups(catalog, read_groups(groups), known, columns=words, name=name)
    if unions is not None:
        found += random_unions(catalog, unions, seed=union_seed, columns=words, name=name)
    return found


def _play(
    labelled: LabelledCatalog,
    concepts: list[Concept],
    models: Any,
    counts: tuple[int, ...],
    policies: Any,
    user: User,
    *,
    against: str,
    seeds: int,
    rounds: int,
) -> Report:
    from gpubranches.research.quality.comparison import evaluate as compare
    from gpubranches.research.quality.report import Report
    from gpubranches.research.quality.rounds import play_rounds

    with progress_bar() as bar:
        compared = compare(
            labelled,
            concepts,
            models=models,
            positives=counts,
            seeds=seeds,
            user=user,
            progress=lambda done, total: bar("models", done, total),
        )
        played = None
        if rounds:
            played = play_rounds(
                labelled,
                concepts,
                policies=policies,
                rounds=rounds,
                seeds=seeds,
                user=user,
                progress=lambda done, total: bar("rounds", done, total),
            )
    return Report(labelled.n, concepts, compared, played, against, {"backend": labelled.backend.name}, user)


evaluate.add_command(codes)
evaluate.add_command(demo)
