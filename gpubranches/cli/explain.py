"""The command that explains why an item matches or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from gpubranches.cli.options import catalog_argument, json_option, print_json, refine_options
from gpubranches.cli.sessions import MarkedIds, Source, mark_options, model_source
from gpubranches.service.texts import texts_in
from gpubranches.service.wording import explanation_to_json, verdict

if TYPE_CHECKING:
    from gpubranches.core.options import RefineOptions
    from gpubranches.retrieval.explain import Explanation


@click.command()
@catalog_argument
@click.argument("item", metavar="ID", type=int)
@mark_options
@refine_options
@model_source
@json_option
def explain(source: Source, item: int, marks: MarkedIds, options: RefineOptions, as_json: bool) -> None:
    """Explain why an item matches or not: its boxes, and the bounds that it passes or misses most narrowly.

    The model is trained again, so give the marks and options of the refine.
    """
    with source.session() as session:
        marks.put_into(session)
        session.find_all(options)
        told = session.explain(item)
    if as_json:
        print_json(explanation_to_json(told))
    else:
        _show(told)


def _show(told: Explanation) -> None:
    console = Console()
    console.print(f"Item {told.item}: {verdict(texts_in(), told)}", highlight=False, soft_wrap=True)
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
