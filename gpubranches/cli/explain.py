"""explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from gpubranches.cli.options import (
    backend_option,
    catalog_argument,
    embedder_option,
    json_option,
    lean_option,
    marked_session,
    model_option,
    negative_option,
    negative_weight_option,
    positive_option,
    print_json,
    query_option,
    random_negatives_option,
    second_stage_option,
)

if TYPE_CHECKING:
    from gpubranches.retrieval.explain import Explanation


@click.command()
@catalog_argument
@click.argument("item", metavar="ID", type=int)
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
@backend_option
@json_option
def explain(
    directory: Path,
    item: int,
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
    backend: str,
    as_json: bool,
) -> None:
    """Tell why an item is in the answer of a refine or is not: its boxes, and the bounds it nearly fails or misses."""
    with marked_session(directory, backend, positive, negative, seed, query, embedder) as session:
        session.refine(
            model,
            second_stage=second_stage,
            random_negatives=random_negatives,
            negative_weight=negative_weight,
            lean=lean,
            query=query,
        )
        told = session.explain(item)
    if as_json:
        print_json(told.to_json())
    else:
        _show(told)


def _show(told: Explanation) -> None:
    console = Console()
    console.print(f"Item {told.item}: {told.verdict()}", highlight=False, soft_wrap=True)
    if told.held:
        table = Table(
            "estimator", "box", "dim", "low", "code", "high", "margin", title="Bounds it passes most narrowly"
        )
        for reading, bound in told.narrowest(10):
            row = (reading.estimator, reading.box, bound.dim, bound.low, bound.code, bound.high, bound.margin)
            table.add_row(*map(str, row))
        console.print(table)
        held = ", ".join(f"{reading.box} (estimator {reading.estimator})" for reading in told.held)
        console.print(f"Boxes that hold it: {held}.", highlight=False, soft_wrap=True)
    if told.misses:
        table = Table(
            "estimator", "box", "dim", "low", "code", "high", "would move by", title="Boxes it misses nearest"
        )
        for reading, bound in told.missed():
            row = (reading.estimator, reading.box, bound.dim, bound.low, bound.code, bound.high, abs(bound.margin or 0))
            table.add_row(*map(str, row))
        console.print(table)


COMMANDS = (explain,)
