"""The OpenAPI description, generated from the table of operations."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import current_app

from gpubranches import __version__
from gpubranches.app.api.operations import JSON, OPERATIONS, PREFIX, Operation, operation
from gpubranches.app.api.schema import Schema
from gpubranches.app.problem_details import MEDIA_TYPE, PROBLEM

_REFUSALS = (400, 401, 403, 404, 409, 410, 413, 415, 422, 429, 500, 503)


@operation("GET", "/openapi.json", answer={"type": "object"})
def openapi() -> dict[str, Any]:
    """Describe this API."""
    return document(current_app.extensions["gpubranches.access"].token is not None)


def document(locked: bool = False) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of all operations. locked: whether a token is required."""
    paths: dict[str, dict[str, Any]] = {}
    for row in OPERATIONS:
        paths.setdefault(PREFIX + row.path, {})[row.method.lower()] = _described(row)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gpubranches",
            "version": __version__,
            "description": "Find all images of a catalog that match an idea: search, mark a few, apply a model.",
        },
        "security": [{"token": []}] if locked else [],
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {str(status): _refusal(status) for status in _REFUSALS},
        },
    }


def _described(row: Operation) -> dict[str, Any]:
    summary, _, rest = row.summary.partition("\n")
    description: dict[str, Any] = {
        "operationId": row.name,
        "summary": summary,
        "parameters": [
            *(_parameter("path", name, schema) for name, schema in row.path_parameters.items()),
            *(_parameter("query", name, schema) for name, schema in row.query.items()),
        ],
        "responses": {
            str(row.status): _answer(row),
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in _REFUSALS},
        },
    }
    if rest.strip():
        description["description"] = " ".join(rest.split())
    if row.raw is not None:
        binary = {"type": "string", "format": "binary"}
        description["requestBody"] = {"required": True, "content": {media: {"schema": binary} for media in row.raw[0]}}
    elif row.body is not None:
        description["requestBody"] = {"required": True, "content": {JSON: {"schema": closed(row.body)}}}
    return description


def _parameter(place: str, name: str, schema: Schema) -> dict[str, Any]:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _answer(row: Operation) -> dict[str, Any]:
    description: dict[str, Any] = {"description": HTTPStatus(row.status).phrase}
    if row.media:
        binary = {"type": "string", "format": "binary"}
        files = {media: {} if media == JSON else binary for media in row.media}
        description["content"] = {
            media: {"schema": file if row.answer is None else row.answer} for media, file in files.items()
        }
    return description


def _refusal(status: int) -> dict[str, Any]:
    description: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        description["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return description


def closed(schema: Schema) -> Schema:
    """Return a schema of a request with `additionalProperties: false`, as requests are checked."""
    if schema["type"] == "array":
        return {**schema, "items": closed(schema["items"])}
    if schema["type"] != "object":
        return schema
    properties = {name: closed(own) for name, own in schema.get("properties", {}).items()}
    return {**schema, "properties": properties, "additionalProperties": False}
