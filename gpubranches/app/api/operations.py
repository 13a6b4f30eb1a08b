"""The table of the API's operations. Each declares its parameters and responses, which are checked and documented."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, request
from werkzeug.exceptions import UnsupportedMediaType

from gpubranches.app.api.schema import Schema, check, parse, read
from gpubranches.errors import UsageError

PREFIX = "/api/v1"
Handler = TypeVar("Handler", bound=Callable[..., Any])
JSON = "application/json"
SESSION: Schema = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{22}$",
    "description": "The name that a session was given when it was made.",
}
ID: Schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "description": "An item's id."}
PLACES: dict[str, Schema] = {"session": SESSION, "item": ID}

routes = Blueprint("api", __name__, url_prefix=PREFIX)
OPERATIONS: list[Operation] = []


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    path: below PREFIX, with {names}; places, query: schemas of the names and of the query; body: schema of the JSON
    body, None for none; raw: media types of another body, with its limit in bytes; answer: schema of the JSON response;
    media: media types of the response; status: of success.
    """

    method: str
    path: str
    name: str
    summary: str
    places: dict[str, Schema]
    query: dict[str, Schema]
    body: Schema | None
    raw: tuple[tuple[str, ...], int] | None
    answer: Schema | None
    media: tuple[str, ...]
    status: int

    def arguments(self, places: dict[str, str]) -> dict[str, Any]:
        """Return the checked arguments of the current request. Raises UsageError or UnsupportedMediaType."""
        found = {name: read(self.places[name], text, name) for name, text in places.items()}
        for name, texts in request.args.lists():
            if name not in self.query or len(texts) > 1:
                raise UsageError(f"query: expected {', '.join(self.query) or 'nothing'}, each once, got {name!r:.80}")
            found[name] = read(self.query[name], texts[0], name)
        for name, schema in self.query.items():
            if name not in found and "default" in schema:
                found[name] = schema["default"]
        if self.raw is not None:
            self._require_type(self.raw[0])
            request.max_content_length = self.raw[1]
            found["body"] = request.get_data(cache=False)
        elif self.body is not None:
            self._require_type((JSON,))
            found["body"] = check(self.body, parse(request.get_data(cache=False)), "body")
        return found

    def _require_type(self, wanted: tuple[str, ...]) -> None:
        if request.mimetype not in wanted:
            raise UnsupportedMediaType(f"expected Content-Type {' or '.join(wanted)}, got {request.mimetype!r:.80}")


def operation(
    method: str,
    path: str,
    *,
    query: dict[str, Schema] | None = None,
    places: dict[str, Schema] | None = None,
    body: Schema | None = None,
    raw: tuple[tuple[str, ...], int] | None = None,
    answer: Schema | None = None,
    media: tuple[str, ...] = (JSON,),
    status: int = 200,
) -> Callable[[Handler], Handler]:
    """Register a function in the table and as a route; it is called with what `Operation.arguments` returns."""

    def enter(function: Handler) -> Handler:
        names = re.findall(r"{(\w+)}", path)
        row = Operation(
            method,
            path,
            function.__name__,
            inspect.cleandoc(function.__doc__ or ""),
            {name: {**PLACES, **(places or {})}[name] for name in names},
            query or {},
            body,
            raw,
            answer,
            media,
            status,
        )
        OPERATIONS.append(row)

        @functools.wraps(function)
        def serve(**taken: str) -> Any:
            answered = function(**row.arguments(taken))
            return answered if status == 200 else (answered, status)

        rule = re.sub(r"{(\w+)}", r"<\1>", path)
        routes.add_url_rule(rule, row.name, serve, methods=[method], provide_automatic_options=False)
        return function

    return enter
