"""The command that finds all items that match marked ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from gpubranches.cli.options import (
    catalog_argument,
    describe,
    json_option,
    print_json,
    print_table,
    refine_options,
    tell_missing_pictures,
)
from gpubranches.cli.sessions import MarkedIds, Source, mark_options, model_source
from gpubranches.core.results import TIERS
from gpubranches.errors import UsageError
from gpubranches.service.export import BOX_FORMATS, FORMATS, format_of
from gpubranches.service.texts import texts_in
from gpubranches.service.wording import intervals

if TYPE_CHECKING:
    from gpubranches.core.options import RefineOptions
    from gpubranches.service import Session
    from gpubranches.service.answer import Answer


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
        _show_answer(session, answer, limit, written, as_json)
        if written is not None and not as_json:
            lacking = f"; {len(answer.matches) - written:,} have no picture" if written < len(answer.matches) else ""
            click.echo(f"Wrote {written:,} items to {out}{lacking}.")
            if lacking:
                tell_missing_pictures(session.catalog)


def _show_answer(session: Session, answer: Answer, limit: int, written: int | None, as_json: bool) -> None:
    catalog, ranking = session.catalog, answer.ranking
    shown = slice(0, limit)
    ids = ranking.ids[shown]
    votes = None if ranking.votes is None else ranking.votes[shown].tolist()
    tiers = [ranking.tier(rank) for rank in range(len(ids))]
    if as_json:
        told = {
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
        print_json(told)
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
    print_table(
        table,
        f"{ranking.total:,} of {catalog.n:,} items match ({ranking.candidates:,} candidates), "
        f"{ranking.source}, {ranking.timings_ms['total']:.0f} ms{_completeness(answer)}",
    )


def _completeness(answer: Answer) -> str:
    tiers = [f"{len(answer.parts[name]):,} {name}" for name in TIERS if name in answer.parts]
    guess = intervals(texts_in(), answer.ranking)
    said = [f"a guess, because no items were checked: {guess}" if guess else "", ", ".join(tiers)]
    return "".join(f"\n{line}" for line in said if line)
