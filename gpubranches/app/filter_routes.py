"""The filter: how many items it admits, and the columns that it can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, make_response, render_template, request

from gpubranches.app.app_context import service
from gpubranches.app.language import t, told
from gpubranches.app.request_values import where_of_address
from gpubranches.catalog.metadata.choices import selected_values, toggle_value
from gpubranches.catalog.metadata.conditions import column_text, value_condition
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.catalog.metadata_table import Column

routes = Blueprint("filter", __name__)


@routes.get("/filter/count")
def count() -> Response:
    """Show how many items the filter `where` admits and which choices are in it, or what is wrong with it."""
    return _show_count(where_of_address())


@routes.get("/filter/toggle")
def toggle() -> Response:
    """Add a value of a column, `choice`, to the filter `where`, or remove it, and show the new filter."""
    try:
        where = toggle_value(where_of_address(), request.args.get("choice", ""))
    except UsageError as error:
        return _show_error(error)
    return _show_count(where, edited=True)


@routes.get("/filter/columns")
def columns() -> Response:
    """Show the columns, and the most frequent values of columns with few distinct ones."""
    columns = [(column_text(column.name), column.kind, _values(column)) for column in service().columns()]
    return make_response(render_template("_columns.html", columns=columns))


def _show_count(where: str, edited: bool = False) -> Response:
    try:
        message = t("filter-count", count=service().count(where), total=service().catalog.n)
    except UsageError as error:
        return _show_error(error, where, edited)
    return make_response(
        render_template("_count.html", message=message, chosen=selected_values(where), where=where, edited=edited)
    )


def _show_error(error: UsageError, where: str = "", edited: bool = False) -> Response:
    message = told(error).text
    return make_response(render_template("_count.html", message=message, wrong=True, where=where, edited=edited))


def _values(column: Column) -> list[tuple[str | None, int, str]]:
    return [
        (None if value is None else str(value), count, value_condition(column.name, value))
        for value, count in column.values
    ]
