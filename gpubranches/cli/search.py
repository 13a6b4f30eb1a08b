"""The command that searches a catalog."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.markup import escape
from rich.table import Table

from gpubranches.cli.options import (
    as_object,
    catalog_argument,
    describe,
    json_option,
    print_json,
    print_table,
    where_option,
)
from gpubranches.cli.sessions import Source, search_source
from gpubranches.core.arrays import open_npy
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.retrieval.hits import Hits
    from gpubranches.service import Session


@dataclass(frozen=True)
class Query:
    """The query in one of four forms. Raises UsageError if none or several are given."""

    text: str | None = None
    image: Path | None = None
    item: int | None = None
    vector: Path | None = None

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.text, self.image, self.item, self.vector)) != 1:
            raise UsageError("expected one query: a TEXT, --image, --like or --vector; give exactly one of them")

    def value(self) -> str | Path | int | np.ndarray[Any, Any]:
        """Return the value as `Session.search` expects it. Raises UsageError or DataError for an invalid file."""
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
    print_table(table, f"{len(hits)} of {session.catalog.n:,} items, {hits.source}, {elapsed_ms:.1f} ms")


def _read_vector(path: Path) -> np.ndarray[Any, Any]:
    vector = open_npy(path)
    if not vector.size or vector.size != max(vector.shape, default=0):
        raise UsageError(f"{path}: expected one vector, got shape {vector.shape}")
    if vector.dtype.kind not in "fiu":
        raise UsageError(f"{path}: expected numbers, got {vector.dtype}; convert them to float32 first")
    flat = np.array(vector.reshape(-1))
    return flat if flat.dtype == np.uint8 else flat.astype(np.float32)
