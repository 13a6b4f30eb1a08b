"""The filter: how many items it lets in, and the columns that it can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, make_response, render_template, request

from gpubranches.app.app_context import service
from gpubranches.app.request_values import where_of_address
from gpubranches.catalog.metadata.choices import selected_values, toggle_value
from gpubranches.catalog.metadata.conditions import column_text, value_condition
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.catalog.metadata_table import Column

routes = Blueprint("filter", __name__)


@routes.get("/filter/count")
def count() -> Response:
    """Tell how many items the filter `where` lets in and which choices it has on, or what is wrong with it."""
    return _told(where_of_address())


@routes.get("/filter/toggle")
def toggle() -> Response:
    """Add a value of a column, `choice`, to the filter `where`, or remove it, and tell of the new filter."""
    try:
        where = toggle_value(where_of_address(), request.args.get("choice", ""))
    except UsageError as error:
        return _wrong(error)
    return _told(where, edited=True)


@routes.get("/filter/columns")
def columns() -> Response:
    """Show the columns, and the most frequent values of those that hold few."""
    told = [(column_text(column.name), column.kind, _values(column)) for column in service().columns()]
    return make_response(render_template("_columns.html", columns=told))


def _told(where: str, edited: bool = False) -> Response:
    try:
        told = f"{service().count(where):,} of {service().catalog.n:,} items"
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
