"""The command that measures the value of a code's bytes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpubranches.cli.options import json_option, progress_bar
from gpubranches.errors import UsageError
from gpubranches.research.commands.sections import embedder_or_none, make_folder, parse_columns, parse_counts, show

if TYPE_CHECKING:
    from gpubranches import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.encoders.heads import Head
    from gpubranches.research.codes import CodesReport, SearchTask
    from gpubranches.research.quality.comparison import Comparison
    from gpubranches.research.quality.concepts import Concept


@click.command("codes")
@click.argument("directory", metavar="CATALOG", type=click.Path(path_type=Path))
@click.option(
    "--head", "heads", metavar="NAME=FILE", multiple=True, help="A head to measure beside rca and pca; repeatable."
)
@click.option(
    "--columns", default="dataset,label", show_default=True, help="Columns whose values define a class, or none."
)
@click.option("--name", default="caption", show_default=True, help="The column with the names of the classes.")
@click.option(
    "--fewest", default=1, show_default=True, type=click.IntRange(1), help="Least number of items of a class."
)
@click.option("--embedder", metavar="SPEC", help="As for ingest; none: all queries are images.")
@click.option(
    "--texts", default=2000, show_default=True, type=click.IntRange(1), help="Largest number of text queries."
)
@click.option("--marked", metavar="COUNTS", help="Also compare find alls: numbers of items marked right, such as 8,22.")
@click.option("--without-faiss", is_flag=True, help="Leave the codecs of faiss out.")
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Tables, JSON and plots.")
@json_option
def codes(
    directory: Path,
    heads: tuple[str, ...],
    columns: str,
    name: str,
    fewest: int,
    embedder: str | None,
    texts: int,
    marked: str | None,
    without_faiss: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare codecs of 32 bytes per item by how well they keep the ranking of the embeddings.

    Heads, faiss's codecs and the project's own bits are fitted to the same items, and searched by held-out images, by
    texts and by the names of classes, none of which a head was trained on; the truth is the cosine over all dims.
    """
    from gpubranches import Catalog
    from gpubranches.research.codes import make_search_task
    from gpubranches.research.codes.plots import draw

    catalog = Catalog.open(directory)
    opened_heads = _heads(heads, catalog)
    known = [text for head in opened_heads.values() for text in head.learned_texts]
    opened = embedder_or_none(catalog, embedder)
    concepts = _concepts(catalog, opened, columns, name, fewest)
    task = make_search_task(catalog, opened, concepts, trained_on=known, most_texts=texts)
    make_folder(out)
    report = _measure(catalog, task, opened_heads, not without_faiss)
    if marked is not None:
        report = replace(report, answers=_answers(catalog, opened, concepts, heads, parse_counts(marked, "--marked")))
    show(report, f"Codes of {directory.resolve().name}", draw, out, as_json=as_json)


def _measure(catalog: Catalog, task: SearchTask, heads: dict[str, Head], faiss: bool) -> CodesReport:
    from gpubranches.research.codes import CodesReport, choose_methods, measure

    if catalog.signs is None:
        raise UsageError("expected a catalog with embeddings, this one has codes only; ingest its embeddings")
    methods, left_out = choose_methods(task, heads, catalog.signs, faiss=faiss)
    with progress_bar() as bar:
        results, spreads = measure(task, methods, bar)
    return CodesReport(task, results, spreads, left_out)


def _answers(
    catalog: Catalog,
    embedder: Embedder | None,
    concepts: list[Concept],
    specs: tuple[str, ...],
    positives: tuple[int, ...],
) -> Comparison:
    from gpubranches import open_backend
    from gpubranches.encoders.heads import LINEAR
    from gpubranches.research.codes import compare_answers
    from gpubranches.research.quality.concepts import FEWEST
    from gpubranches.research.quality.labelled_catalog import LabelledCatalog

    heads = {**dict(spec.split("=", 1) for spec in specs), **{name: name for name in LINEAR}}
    large = [concept for concept in concepts if len(concept.items) >= FEWEST]
    if not large:
        raise UsageError(f"--marked: expected an embedder and classes of {FEWEST} items or more, got none")
    with (
        progress_bar() as bar,
        tempfile.TemporaryDirectory(prefix="gpubranches-") as folder,
        open_backend("auto", catalog) as backend,
    ):
        return compare_answers(
            LabelledCatalog(catalog, backend, embedder),
            large,
            heads,
            Path(folder),
            positives=positives,
            progress=lambda done, total: bar("answers", done, total),
        )


def _concepts(catalog: Catalog, embedder: Embedder | None, columns: str, name: str, fewest: int) -> list[Concept]:
    from gpubranches.research.quality.concepts import askable_by, find_concepts

    words = parse_columns(columns)
    if embedder is None or words == ("none",):
        return []
    return find_concepts(catalog, askable_by(embedder), columns=words, name=name, fewest=fewest)


def _heads(specs: tuple[str, ...], catalog: Catalog) -> dict[str, Head]:
    """Open the heads of --head, checked against the catalog's embeddings."""
    from gpubranches.encoders.heads import LINEAR, load_head, require_head

    heads: dict[str, Head] = {}
    for spec in specs:
        name, _, file = spec.partition("=")
        if not name or not file:
            raise UsageError(f"--head: expected NAME=FILE, got {spec!r}")
        if name in heads or name in LINEAR:
            raise UsageError(
                f"--head: expected names used once, and not {' or '.join(LINEAR)}, which are always there; got {name!r}"
            )
        heads[name] = load_head(Path(file))
        if catalog.D:
            require_head(heads[name], catalog.D, catalog.space.embedder)
    return heads
