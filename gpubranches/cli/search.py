"""The commands that search a catalog and find all matches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpubranches.cli.options import (
    as_object,
    catalog_argument,
    describe,
    json_option,
    print_json,
    refine_options,
    tell_missing_pictures,
    where_option,
)
from gpubranches.cli.sessions import MarkedIds, Source, mark_options, model_source, search_source
from gpubranches.core.arrays import open_npy
from gpubranches.core.options import RefineOptions
from gpubranches.core.results import TIERS
from gpubranches.errors import UsageError
from gpubranches.service.export import BOX_FORMATS, FORMATS, format_of

if TYPE_CHECKING:
    from gpubranches.retrieval.hits import Hits
    from gpubranches.service import Session


@dataclass(frozen=True)
class Query:
    """What is searched for, in one of four forms. Raises UsageError for none of them and for several."""

    text: str | None = None
    image: Path | None = None
    item: int | None = None
    vector: Path | None = None

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.text, self.image, self.item, self.vector)) != 1:
            raise UsageError("expected one query: a TEXT, --image, --like or --vector; give exactly one of them")

    def value(self) -> str | Path | int | np.ndarray[Any, Any]:
        """Return it as `Session.search` takes it. Raises UsageError or DataError for a file that is no vector."""
        if self.vector is not None:
            return _read_vector(self.vector)
        given = (self.text, self.image, self.item)
        return next(form for form in given if form is not None)


query_options = as_object(
    "query",
    Query,
    click.argument("text", required=False),
    click.option("--image", metavar="FILE", type=click.Path(path_type=Path), help="Search by a picture."),
    click.option("--like", "item", metavar="ID", type=int, help="Search by an item of the catalog."),
    click.option(
        "--vector", metavar="FILE", type=click.Path(path_type=Path), help="Search by a vector in a .npy file."
    ),
)
"""The query of a search, as one argument `query`."""


@click.command()
@catalog_argument
@query_options
@click.option("-k", default=100, show_default=True, type=click.IntRange(1), help="How many items to find.")
@click.option(
    "--by-codes",
    is_flag=True,
    help="Compare codes even if the catalog has embeddings; a TEXT needs a head with a text tower.",
)
@where_option
@search_source
@json_option
def search(source: Source, query: Query, k: int, by_codes: bool, where: str | None, as_json: bool) -> None:
    """Find the items nearest to a TEXT such as "dog + #17 - sketch", a picture, an item or a vector."""
    value = query.value()
    with source.session() as session:
        start = time.perf_counter()
        hits = session.search(value, k, where=where, by_codes=by_codes)
        _show_hits(session, hits, (time.perf_counter() - start) * 1000, as_json)


@click.command()
@catalog_argument
@mark_options
@refine_options
@click.option("--limit", default=100, show_default=True, type=click.IntRange(0), help="How many items to print.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write all matches to a file; the ending names the format.",
)
@click.option("--format", type=click.Choice(list(FORMATS)), help="Format of --out, if the ending names none.")
@click.option("--sql", is_flag=True, help="Print the boxes as SQL instead of the matches.")
@model_source
@json_option
def refine(
    source: Source,
    marks: MarkedIds,
    options: RefineOptions,
    limit: int,
    out: Path | None,
    format: str | None,
    sql: bool,
    as_json: bool,
) -> None:
    """Find all items that match the marked ones: train boxes on the marks and apply them to the whole catalog."""
    if out is not None:
        format_of(out, format)
    elif format is not None:
        raise UsageError("--format: expected --out FILE with it, got none")
    with source.session() as session:
        marks.put_into(session)
        answer = session.find_all(options)
        written = None if out is None else answer.matches.export(out, format)
        if sql and answer.boxes is not None:
            click.echo(BOX_FORMATS["sql"].write(answer.boxes, answer.min_votes).decode(), nl=False)
            return
        _show_answer(session, limit, written, as_json)
        if written is not None and not as_json:
            lacking = f"; {len(answer.matches) - written:,} have no picture" if written < len(answer.matches) else ""
            click.echo(f"Wrote {written:,} items to {out}{lacking}.")
            if lacking:
                tell_missing_pictures(session.catalog)


def _show_hits(session: Session, hits: Hits, elapsed_ms: float, as_json: bool) -> None:
    if as_json:
        answer = {
            "ids": hits.ids.tolist(),
            "distances": hits.distances.tolist(),
            "scores": (-hits.distances).tolist(),
            "votes": None,
            "matched": None,
            "total": len(hits),
            "timings_ms": {"total": elapsed_ms},
            "backend": session.backend.name,
            "source": hits.source,
            "seed": session.seed,
        }
        print_json(answer)
        return
    table = Table("rank", "id", "distance", "item")
    for rank, (hit, row) in enumerate(zip(hits, hits.items(), strict=True), 1):
        table.add_row(str(rank), str(hit.id), f"{hit.distance:.4f}", escape(describe(row)))
    _print(table, f"{len(hits)} of {session.catalog.n:,} items, {hits.source}, {elapsed_ms:.1f} ms")


def _show_answer(session: Session, limit: int, written: int | None, as_json: bool) -> None:
    catalog, ranking = session.catalog, session.last_answer().ranking
    shown = slice(0, limit)
    ids = ranking.ids[shown]
    votes = None if ranking.votes is None else ranking.votes[shown].tolist()
    tiers = [ranking.tier(rank) for rank in range(len(ids))]
    if as_json:
        answer = {
            "ids": ids.tolist(),
            "scores": ranking.scores[shown].tolist(),
            "votes": votes,
            "matched": ranking.matched[shown].tolist(),
            "tiers": tiers,
            "total": ranking.total,
            "candidates": ranking.candidates,
            "threshold": ranking.threshold,
            "lean": ranking.lean,
            "precision": ranking.precision,
            "recall": ranking.recall,
            "timings_ms": ranking.timings_ms,
            "backend": session.backend.name,
            "source": ranking.source,
            "seed": session.seed,
            "written": written,
        }
        print_json(answer)
        return
    table = Table("rank", "id", "score", "votes", "match", "item")
    for rank, row in enumerate(catalog.items(ids)):
        table.add_row(
            str(rank + 1),
            str(row["id"]),
            f"{ranking.scores[rank]:.3f}",
            "" if votes is None else str(votes[rank]),
            tiers[rank] or ("yes" if ranking.matched[rank] else ""),
            escape(describe(row)),
        )
    _print(
        table,
        f"{ranking.total:,} of {catalog.n:,} items match ({ranking.candidates:,} candidates), "
        f"{ranking.source}, {ranking.timings_ms['total']:.0f} ms{_completeness(session)}",
    )


def _completeness(session: Session) -> str:
    from gpubranches.service.wording import intervals

    answer = session.last_answer()
    tiers = [f"{len(answer.parts[name]):,} {name}" for name in TIERS if name in answer.parts]
    guess = intervals(answer.ranking)
    said = [f"a guess, as nothing is checked: {guess}" if guess else "", ", ".join(tiers)]
    return "".join(f"\n{line}" for line in said if line)


def _read_vector(path: Path) -> np.ndarray[Any, Any]:
    vector = open_npy(path)
    if not vector.size or vector.size != max(vector.shape, default=0):
        raise UsageError(f"{path}: expected one vector, got shape {vector.shape}")
    if vector.dtype.kind not in "fiu":
        raise UsageError(f"{path}: expected numbers, got {vector.dtype}; convert them to float32 first")
    flat = np.array(vector.reshape(-1))
    return flat if flat.dtype == np.uint8 else flat.astype(np.float32)


def _print(table: Table, summary: str) -> None:
    console = Console()
    console.print(table)
    console.print(escape(summary), highlight=False)
