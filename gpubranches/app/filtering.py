"""The filter: how many items it lets in, and what the columns hold that it may be about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, make_response, render_template, request

from gpubranches.app.asking import desk
from gpubranches.conditions import equals, written
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.catalog.table import Column

routes = Blueprint("filtering", __name__)


@routes.get("/filter/count")
def count() -> Response:
    """Tell how many items the filter `where` lets in, or what is wrong with it."""
    at, where = desk(), request.args.get("where", "").strip()
    try:
        told, wrong = f"{at.inside(where):,} of {at.catalog.n:,} items", False
    except UsageError as error:
        told, wrong = str(error).removeprefix("where: "), True
    return make_response(render_template("_count.html", told=told, wrong=wrong))


@routes.get("/filter/columns")
def columns() -> Response:
    """Show the columns, and the most frequent values of those that hold few."""
    told = [(written(column.name), column.kind, _values(column)) for column in desk().catalog.described_columns()]
    return make_response(render_template("_columns.html", columns=told))


def _values(column: Column) -> list[tuple[str, int, str]]:
    return [
        ("missing" if value is None else str(value), count, equals(column.name, value))
        for value, count in column.values
    ]
