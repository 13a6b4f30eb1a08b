"""Checks of requests by JSON Schema; the same schemas are in the OpenAPI file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from gpubranches.errors import UsageError

Schema = dict[str, Any]
"""A JSON Schema with the keywords that `check` supports: type (one), enum, minimum, maximum, minLength, maxLength,
pattern, items, minItems, maxItems, properties, required, oneOf (each of `required` alone). Properties other than those
listed are refused."""

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}


def record(properties: dict[str, Schema], description: str = "") -> Schema:
    """Return the schema of an object that has all of the properties."""
    schema: Schema = {"type": "object", "required": list(properties), "properties": properties}
    return {**schema, "description": description} if description else schema


def array(items: Schema, description: str = "") -> Schema:
    """Return the schema of a list."""
    schema: Schema = {"type": "array", "items": items}
    return {**schema, "description": description} if description else schema


def parse(data: bytes) -> Any:
    """Parse a JSON text. Raises UsageError for a text that is not UTF-8, not JSON, not finite or nested too deeply."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise UsageError(f"body: expected UTF-8, got the byte {data[error.start]:#04x} at {error.start}") from error
    except RecursionError as error:
        raise UsageError("body: expected JSON, got one that is nested too deeply") from error
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"body: expected JSON, got {data[:40]!r}: {error}") from error


def read(schema: Schema, text: str, name: str) -> Any:
    """Parse a part of the address by its schema. Raises UsageError."""
    if schema["type"] == "integer":
        if not re.fullmatch(r"-?[0-9]{1,30}", text):
            raise UsageError(f"{name}: expected {describe(schema)}, got {text!r:.80}")
        return check(schema, int(text), name)
    return check(schema, text, name)


def check(schema: Schema, value: Any, name: str) -> Any:
    """Return a value with the defaults of its schema filled in. Raises UsageError with what was expected and given."""
    kind = schema["type"]
    if kind in ("integer", "number"):
        return _number(schema, value, name)
    if kind == "string" and isinstance(value, str):
        return _text(schema, value, name)
    if kind == "array" and isinstance(value, list):
        return _list(schema, value, name)
    if kind == "object" and isinstance(value, dict):
        return _object(schema, value, name)
    if kind == "boolean" and isinstance(value, bool):
        return value
    raise UsageError(f"{name}: expected {describe(schema)}, got {_shown(value)}")


def describe(schema: Schema) -> str:
    """Describe in words what a schema accepts."""
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    said = _TYPES[schema["type"]]
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        return f"{said} of {low} and more" if high is None else f"{said} of {low} to {high}"
    if schema["type"] == "string" and ("maxLength" in schema or "pattern" in schema):
        form = f" of the form {schema['pattern']}" if "pattern" in schema else ""
        return f"{said} of {schema.get('minLength', 0)} to {schema.get('maxLength', '...')} letters{form}"
    if schema["type"] == "array":
        return f"{said} of {schema.get('minItems', 0)} to {schema.get('maxItems', '...')}"
    return said


def _number(schema: Schema, value: Any, name: str) -> Any:
    whole = schema["type"] == "integer"
    sound = isinstance(value, int | float) and not isinstance(value, bool)
    if sound and whole and isinstance(value, float):
        sound = value.is_integer()
    sound = sound and schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
    if not sound or ("enum" in schema and value not in schema["enum"]):
        raise UsageError(f"{name}: expected {describe(schema)}, got {_shown(value)}")
    return int(value) if whole else float(value)


def _text(schema: Schema, value: str, name: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name}: expected a text of whole characters, got half of a character at {error.start}"
        ) from error
    within = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
    formed = "pattern" not in schema or re.search(schema["pattern"], value) is not None
    if not within or not formed or value not in schema.get("enum", (value,)):
        raise UsageError(f"{name}: expected {describe(schema)}, got {_shown(value)}")
    return value


def _list(schema: Schema, value: list[Any], name: str) -> list[Any]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        raise UsageError(f"{name}: expected {describe(schema)}, got {len(value)}")
    return [check(schema["items"], each, f"{name}[{place}]") for place, each in enumerate(value)]


def _object(schema: Schema, value: Mapping[str, Any], name: str) -> dict[str, Any]:
    properties: dict[str, Schema] = schema.get("properties", {})
    for key in value:
        if key not in properties:
            raise UsageError(f"{name}: expected {', '.join(properties) or 'no field'}, got a field {_shown(key)}")
    for key in schema.get("required", ()):
        if key not in value:
            raise UsageError(f"{name}: expected a field {key}, {describe(properties[key])}, got none")
    choices = [choice["required"][0] for choice in schema.get("oneOf", ())]
    given = [key for key in choices if key in value]
    if choices and len(given) != 1:
        raise UsageError(f"{name}: expected one of {', '.join(choices)}, got {' and '.join(given) or 'none'}")
    defaults = {key: own["default"] for key, own in properties.items() if "default" in own}
    return defaults | {key: check(properties[key], each, key) for key, each in value.items()}


def _shown(value: Any) -> str:
    """Return a value for a message: shortened, and in characters that every response can contain."""
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of more digits than Python converts to text
        return "a number of very many digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse(name: str) -> Any:
    raise UsageError(f"body: expected finite numbers, got {name}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise UsageError(f"body: expected finite numbers, got {text[:40]}")
    return value
