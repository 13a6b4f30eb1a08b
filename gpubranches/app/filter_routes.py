"""The filter: how many items it lets in, and what the columns hold that it may be about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, make_response, render_template, request

from gpubranches.app.request_values import desk
from gpubranches.catalog.metadata.choices import selected_values, toggle_value
from gpubranches.catalog.metadata.conditions import column_text, value_condition
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.catalog.metadata_table import Column

routes = Blueprint("filtering", __name__)


@routes.get("/filter/count")
def count() -> Response:
    """Tell how many items the filter `where` lets in and which choices it has on, or what is wrong with it."""
    return _told(request.args.get("where", "").strip())


@routes.get("/filter/toggle")
def toggle() -> Response:
    """Put a value of a column, `choice`, on in the filter `where`, or take it off, and tell of the filter so made."""
    where = request.args.get("where", "").strip()
    try:
        where = toggle_value(where, request.args.get("choice", ""))
    except UsageError as error:
        return _wrong(error)
    return _told(where, edited=True)


@routes.get("/filter/columns")
def columns() -> Response:
    """Show the columns, and the most frequent values of those that hold few."""
    told = [(column_text(column.name), column.kind, _values(column)) for column in desk().catalog.described_columns()]
    return make_response(render_template("_columns.html", columns=told))


def _told(where: str, edited: bool = False) -> Response:
    at = desk()
    try:
        told = f"{at.inside(where):,} of {at.catalog.n:,} items"
    except UsageError as error:
        return _wrong(error, where, edited)
    return make_response(
        render_template("_count.html", told=told, chosen=selected_values(where), where=where, edited=edited)
    )


def _wrong(error: UsageError, where: str = "", edited: bool = False) -> Response:
    told = str(error).removeprefix("where: ")
    return make_response(render_template("_count.html", told=told, wrong=True, where=where, edited=edited))


def _values(column: Column) -> list[tuple[str, int, str]]:
    return [
        ("missing" if value is None else str(value), count, value_condition(column.name, value))
        for value, count in column.values
    ]
