"""search and refine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpubranches.cli.options import (
    backend_option,
    catalog_argument,
    describe,
    embedder_option,
    json_option,
    lean_option,
    marked_session,
    model_option,
    negative_option,
    negative_weight_option,
    nn_option,
    open_embedder_for,
    opened_backend,
    positive_option,
    print_json,
    query_option,
    random_negatives_option,
    second_stage_option,
    tell_missing_pictures,
    where_option,
)
from gpubranches.core.arrays import open_npy
from gpubranches.core.results import TIERS
from gpubranches.errors import UsageError
from gpubranches.service.export import BOX_FORMATS, FORMATS, format_of

if TYPE_CHECKING:
    from gpubranches import Catalog
    from gpubranches.core.results import Neighbors
    from gpubranches.service import Session


@click.command()
@catalog_argument
@click.argument("text", required=False)
@click.option("--image", "image_file", metavar="FILE", type=click.Path(path_type=Path), help="Search by a picture.")
@click.option("--like", "item", metavar="ID", type=int, help="Search by an item of the catalog.")
@click.option(
    "--vector", "vector_file", metavar="FILE", type=click.Path(path_type=Path), help="Search by a .npy vector."
)
@click.option("-k", default=100, show_default=True, type=click.IntRange(1), help="How many to return.")
@click.option("--by-codes", is_flag=True, help="Search the codes alone; a TEXT needs a head with a text tower.")
@where_option
@embedder_option
@backend_option
@nn_option
@json_option
def search(
    directory: Path,
    text: str | None,
    image_file: Path | None,
    item: int | None,
    vector_file: Path | None,
    k: int,
    by_codes: bool,
    where: str | None,
    embedder: str | None,
    backend: str,
    nn: str,
    as_json: bool,
) -> None:
    """Find the first items for a TEXT such as "dog + #17 - sketch", a picture, an item or a vector."""
    from gpubranches import Catalog, Session
    from gpubranches.catalog.pictures.decoding import decoded_path as opened_picture
    from gpubranches.retrieval.queries import Words, of_kind, parse

    if sum(query is not None for query in (text, image_file, item, vector_file)) != 1:
        raise UsageError("expected one query: a TEXT, --image, --like or --vector; give exactly one of them")
    if by_codes and text is None and item is None:
        raise UsageError("--by-codes: expected a TEXT or --like; a --vector of uint8 is searched by codes anyway")
    catalog = Catalog.open(directory)
    needs_embedder = image_file is not None or (text is not None and of_kind(Words, parse(text).terms))
    with opened_backend(backend, catalog, nn) as opened:
        session = Session(catalog, opened, embedder=open_embedder_for(catalog, embedder) if needs_embedder else None)
        start = time.perf_counter()
        if text is not None:
            found = session.ask(text, k, where=where, by_codes=by_codes)
        elif image_file is not None:
            with opened_picture(image_file) as image:
                found = session.image(image, k, where=where)
        elif vector_file is not None:
            found = session.vector(_read_vector(vector_file), k, where=where)
        else:
            found = session.like(int(item or 0), k, where=where, by_codes=by_codes)
        elapsed_ms = (time.perf_counter() - start) * 1000
    _show_neighbors(catalog, found, elapsed_ms, opened.name, session.seed, as_json)


@click.command()
@catalog_argument
@positive_option
@negative_option
@query_option
@embedder_option
@model_option
@second_stage_option
@random_negatives_option
@negative_weight_option
@lean_option
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--limit", default=100, show_default=True, type=click.IntRange(0), help="How many to print.")
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="Write all matches; the ending names the format."
)
@click.option("--format", type=click.Choice(list(FORMATS)), help="Of --out, where the ending does not tell.")
@click.option("--sql", is_flag=True, help="Print the boxes as SQL instead of the matches.")
@where_option
@backend_option
@json_option
def refine(
    directory: Path,
    positive: str,
    negative: str | None,
    query: str | None,
    embedder: str | None,
    model: Any,
    second_stage: bool | None,
    random_negatives: int,
    negative_weight: float,
    lean: float,
    seed: int,
    limit: int,
    out: Path | None,
    format: str | None,
    sql: bool,
    where: str | None,
    backend: str,
    as_json: bool,
) -> None:
    """Train boxes on marked items, apply them to the whole catalog, print what matches."""
    if out is not None:
        format_of(out, format)
    elif format is not None:
        raise UsageError("--format: expected --out FILE with it, got none")
    with marked_session(directory, backend, positive, negative, seed, query, embedder) as session:
        session.refine(
            model,
            second_stage=second_stage,
            random_negatives=random_negatives,
            negative_weight=negative_weight,
            where=where,
            lean=lean,
            query=query,
        )
        written = None if out is None else session.export(out, format)
        if sql and session.boxes is not None:
            click.echo(BOX_FORMATS["sql"].write(session.boxes, session.min_votes).decode(), nl=False)
            return
    _show_answer(session, limit, written, as_json)
    if written is not None and not as_json:
        total = session.last().ranking.total
        lacking = f"; {total - written:,} have no picture" if written < total else ""
        click.echo(f"Wrote {written:,} items to {out}{lacking}.")
        if lacking:
            tell_missing_pictures(session.catalog)


def _show_neighbors(
    catalog: Catalog, found: Neighbors, elapsed_ms: float, backend: str, seed: int, as_json: bool
) -> None:
    ids = found.ids[0][found.ids[0] >= 0]
    distances = found.distances[0][: len(ids)]
    if as_json:
        answer = {
            "ids": ids.tolist(),
            "distances": distances.tolist(),
            "scores": (-distances).tolist(),
            "votes": None,
            "matched": None,
            "total": len(ids),
            "timings_ms": {"total": elapsed_ms},
            "backend": backend,
            "source": found.source,
            "seed": seed,
        }
        print_json(answer)
        return
    table = Table("rank", "id", "distance", "item")
    for rank, (row, distance) in enumerate(zip(catalog.items(ids), distances, strict=True), 1):
        table.add_row(str(rank), str(row["id"]), f"{distance:.4f}", escape(describe(row)))
    _print(table, f"{len(ids)} of {catalog.n:,} items, {found.source}, {elapsed_ms:.1f} ms")


def _show_answer(session: Session, limit: int, written: int | None, as_json: bool) -> None:
    catalog, ranking = session.catalog, session.last().ranking
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
    from gpubranches.service.app_context import describe_completeness

    answer = session.last()
    tiers = [f"{len(answer.parts[name]):,} {name}" for name in TIERS if name in answer.parts]
    guess = describe_completeness(answer.ranking)
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
