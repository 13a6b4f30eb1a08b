"""Readers of requests: conditions, queries, session files, calls of the API and the page."""

from __future__ import annotations

import io
import json
import re
from base64 import b64encode
from functools import cache
from typing import Any

import numpy as np

from benchmarks.fuzz import mutations
from benchmarks.fuzz.files import pictures
from benchmarks.fuzz.reader import BrokenGuaranteeError, reader
from benchmarks.fuzz.world import World
from gpubranches.app.api import OPERATIONS, PREFIX
from gpubranches.catalog.metadata.conditions import parse as parse_condition
from gpubranches.catalog.metadata.conditions import to_text
from gpubranches.errors import UsageError
from gpubranches.retrieval.queries import parse as parse_query

_CONDITIONS = (
    "label = 1", "caption LIKE 'red%' AND NOT good = TRUE", "score BETWEEN 1 AND 3.5 OR label IN (1, 2)",
    "camera.iso > 3", "taken >= '2024-06-01 12:00' AND day < '2024-07-01'",
    "caption IS NOT NULL AND (good = TRUE OR raw IS NULL)",
    '"caption" ILIKE \'%DOG%\'', "label <> -1e3",
)  # fmt: skip
_WORDS = (
    "AND", "OR", "NOT", "(", ")", "=", "<>", "<=", "LIKE", "ILIKE", "IN", "BETWEEN", "IS", "NULL", "TRUE", "'", "''",
    '"', "label", "caption", "score", "camera.iso", "camera", "tags", "raw", "day", "taken", "id", "1", "1e999", "-0",
    ".5", "'2024-02-30'", "'%'", "'_'", "'\\'", "--", ";", "/*", "?", "$1", "c0", "items", "SELECT", "COPY",
    "read_csv('/etc/passwd')",
)  # fmt: skip


_COLUMNS = (
    "label", "caption", "score", "good", "taken", "day", "camera.iso", "camera.maker", "tags", "raw", '"label"', "id",
)  # fmt: skip
_VALUES = (
    "1", "-2.5", "1e30", "'red car 4'", "'2024-06-01'", "'2024-06-01 12:00'", "TRUE", "'%'", "''",
    "99999999999999999999",
)  # fmt: skip
_TESTS = (
    "{} = {}", "{} <> {}", "{} < {}", "{} >= {}", "{} IN ({}, {})", "{} BETWEEN {} AND {}", "{} IS NULL", "{} LIKE {}",
)  # fmt: skip
_odd_condition = mutations.mutated_text(_WORDS)


def _drawn_condition(rng: mutations.Random, deep: int = 3) -> str:
    if deep and rng.random() < 0.5:
        parts = [_drawn_condition(rng, deep - 1) for _ in range(rng.choice((1, 2, 3)))]
        return rng.choice(("NOT ", "")) + "(" + rng.choice((" AND ", " OR ")).join(parts) + ")"
    test = rng.choice((*_TESTS, "{} LIKE {}"))
    values = (rng.choice(_COLUMNS), *(rng.choice(_VALUES) for _ in range(2)))
    return test.format(*values)


def _mutated_condition(data: bytes, rng: mutations.Random) -> bytes:
    drawn = _drawn_condition(rng).encode()
    return drawn if rng.random() < 0.5 else _odd_condition(rng.choice((data, drawn)), rng)


@reader("conditions", lambda world: [text.encode() for text in _CONDITIONS], _mutated_condition, few=10)
def read_condition(world: World, data: bytes) -> None:
    """Filter by a condition; its text, written from the parsed form, must mean the same."""
    text = data.decode("utf-8", "surrogatepass")
    found = world.opened.where(text)
    again = world.opened.where(to_text(parse_condition(text)))
    if not np.array_equal(found, again):
        raise BrokenGuaranteeError(f"expected {to_text(parse_condition(text))!r} to mean the same")


_QUERIES = (
    "teapot", 'dog + #17 - "red car"', "+ dog - teapot", "#3", "kangaroo - #4 + picture:abcdefghij", '"dog - cat"',
)  # fmt: skip
_TERMS = (
    "+", "-", "#", "#17", "#999999999999999999", "picture:", "picture:abcdefghij", '"', "dog", "teapot", "#0",
    "a" * 200,
)  # fmt: skip


_odd_query = mutations.mutated_text(_TERMS)


def _mutated_query(data: bytes, rng: mutations.Random) -> bytes:
    if rng.random() < 0.5:
        return _odd_query(data, rng)
    terms = [rng.choice(("dog", "teapot", '"red car"', "#3", "#159", "kan")) for _ in range(rng.choice((1, 2, 5, 40)))]
    return "".join(rng.choice((" + ", " - ")) + term for term in terms).strip().encode()


@reader("queries", lambda world: [text.encode() for text in _QUERIES], _mutated_query, few=50)
def read_query(world: World, data: bytes) -> None:
    """Parse a query, and search with it."""
    text = data.decode("utf-8", "surrogatepass")
    parse_query(text)
    world.app.extensions["gpubranches"].service.searcher.search(text, 5)


def _answered(response: Any) -> None:
    """Read a response; raise BrokenGuaranteeError for a status of 500 or more, or a traceback."""
    content = response.get_data()
    if response.status_code >= 500:
        raise BrokenGuaranteeError(
            f"{response.request.method} {response.request.path}: {response.status_code} {content[:300]!r}"
        )
    if b"Traceback (most recent call last)" in content:
        raise BrokenGuaranteeError("the answer holds a traceback")


@cache
def _client(world_folder: str, app: Any) -> tuple[Any, str]:
    """Return a client of the app and the name of a session that has found all."""
    client = app.test_client()
    name = client.post(f"{PREFIX}/sessions", json={}).json["session"]
    at = f"{PREFIX}/sessions/{name}"
    client.post(f"{at}/marks", json={"ids": [1, 9, 13, 17], "label": 1})
    client.post(f"{at}/marks", json={"ids": [2, 3, 10], "label": -1})
    _answered(client.post(f"{at}/refine", json={"model": "branch"}))
    return client, name


def client_of(world: World) -> tuple[Any, str]:
    """Return a client of the world's app and the name of a session that has found all."""
    return _client(str(world.folder), world.app)


def _session(world: World) -> list[bytes]:
    client, name = client_of(world)
    packed = client.get(f"/sessions/{name}.json").json
    embedding, thumbnail = np.ones(world.opened.D, "<f4").tobytes(), pictures()[0]
    picture = {
        "name": "abcdefghij",
        "embedding": b64encode(embedding).decode(),
        "thumbnail": b64encode(thumbnail).decode(),
    }
    query = {"query": "/search?q=picture%3Aabcdefghij&where=label+%3D+1", "where": "label = 1"}
    return [json.dumps(each).encode() for each in (packed, {**packed, **query, "pictures": [picture]})]


@reader("session", _session, mutations.mutated_json, few=15)
def read_session(world: World, data: bytes) -> None:
    """Import a session file by the page, open the session, export it, and copy it."""
    client, _ = client_of(world)
    headers = {"HX-Request": "true"}
    form = {"file": (io.BytesIO(data), "session.json")}
    answer = client.post("/sessions/import", data=form, headers=headers, content_type="multipart/form-data")
    _answered(answer)
    if answer.status_code >= 400:
        return
    _answered(client.get("/"))
    _answered(client.get("/sessions"))
    name = re.findall(rb"/sessions/([\w-]{22})/", client.get("/sessions").get_data())
    if name:
        _answered(client.get(f"/sessions/{name[0].decode()}.json"))
        _answered(client.post(f"/sessions/{name[0].decode()}/copy", headers=headers))
        _answered(client.post(f"/sessions/{name[0].decode()}/delete", headers=headers))


def example(schema: dict[str, Any]) -> Any:
    """Return a value that fits a schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    kind = schema["type"]
    if kind in ("integer", "number"):
        return max(schema.get("minimum", 1), 1 if schema.get("maximum", 1) >= 1 else schema["maximum"])
    if kind == "string":
        return "label = 1" if "condition" in schema.get("description", "") else "teapot"
    if kind == "array":
        return [example(schema["items"])] * max(schema.get("minItems", 1), 1)
    return {name: example(part) for name, part in schema.get("properties", {}).items()} if kind == "object" else True


def _request(method: str, path: str, query: Any, body: Any, kind: str = "application/json") -> bytes:
    return json.dumps({"method": method, "path": path, "query": query, "body": body, "type": kind}).encode()


_PAGES: tuple[tuple[str, str, Any, Any], ...] = (
    ("GET", "/", {}, None),
    ("GET", "/search", {"q": "teapot", "where": "label = 1", "offset": "0"}, None),
    ("GET", "/like", {"id": "3", "offset": "0"}, None),
    ("GET", "/random", {"seed": "1"}, None),
    ("GET", "/matches", {"tier": "sure", "offset": "0"}, None),
    ("GET", "/marks", {"label": "1"}, None),
    ("GET", "/suggest", {}, None),
    ("GET", "/audit", {}, None),
    ("GET", "/completeness", {}, None),
    ("GET", "/why/3", {}, None),
    ("GET", "/filter/count", {"where": "label = 1"}, None),
    ("GET", "/filter/toggle", {"where": "label = 1", "column": "label", "value": "2"}, None),
    ("GET", "/filter/columns", {"where": "label = 1"}, None),
    ("POST", "/mark", {}, {"id": "3", "label": "1", "event": "a", "version": "1", "origin": "user"}),
    ("POST", "/undo", {}, {"event": "b", "version": "1"}),
    ("POST", "/redo", {}, {"event": "c", "version": "1"}),
    ("POST", "/clear", {}, {"event": "d"}),
    ("POST", "/next", {}, {"target": "0.95"}),
    ("POST", "/recut", {}, {"lean": "0.5"}),
    ("POST", "/refine", {}, {"model": "branch", "second_stage": "on", "random_negatives": "10"}),
    ("GET", "/thumbnails/small/3.jpg", {"v": "x"}, None),
    ("GET", "/items/3", {}, None),
    ("GET", "/originals/3", {"download": "1"}, None),
    ("GET", "/map", {"version": "0", "area": "0_0_9_0_9_9", "kinds": "15", "offset": "0"}, None),
    ("GET", "/map/points", {}, None),
    ("GET", "/export/zip", {"tier": "sure"}, None),
    ("GET", "/pictures/abcdefghij.jpg", {}, None),
    ("POST", "/login", {}, {"token": "x"}),  # nosec B105  # no server has it
    ("POST", "/sessions/{session}/name", {}, {"title": "cars"}),
    ("GET", "/export/matches.csv", {}, None),
    ("GET", "/export/boxes.sql", {}, None),
    ("POST", "/metadata", {}, {"ids": [1, 2], "indice_name": "catalog"}),
    ("POST", "/knn-service", {}, {"text": "teapot", "modality": "image", "num_images": 3, "indice_name": "catalog"}),
)  # fmt: skip


def _requests(world: World) -> list[bytes]:
    made = []
    for row in OPERATIONS:
        parameters = {
            name: "{session}" if name == "session" else str(example(schema))
            for name, schema in row.path_parameters.items()
        }
        path = PREFIX + row.path.format(**parameters)
        query = {name: str(example(schema)) for name, schema in row.query.items()}
        body = None if row.body is None else example(row.body)
        if body is not None and "oneOf" in (row.body or {}):
            made += [
                _request(row.method, path, query, {**{n: body[n] for n in one["required"]}})
                for one in (row.body or {})["oneOf"]
            ]
        made.append(_request(row.method, path, query, body))
    return made + [_request(method, path, query, body) for method, path, query, body in _PAGES]


@reader("api", _requests, mutations.mutated_json, few=30)
def read_request(world: World, data: bytes) -> None:
    """Send a request to the API or the page; a body that begins like JSON is sent as JSON, others unchanged."""
    client, name = client_of(world)
    try:
        asked = json.loads(data)
        method, path, kind = (str(asked[part]) for part in ("method", "path", "type"))
        query, body = asked["query"], asked["body"]
    except (ValueError, KeyError, TypeError, RecursionError):
        method, path, kind, query, body = "POST", f"{PREFIX}/search", "application/json", {}, data
    path = path.replace("{session}", name)
    if not re.fullmatch(r"[A-Z]{1,10}", method) or not path.startswith("/"):
        method, path = "GET", "/" + path.lstrip("/")
    sent = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    options: dict[str, Any] = {
        "data": sent,
        "content_type": kind.encode("latin-1", "replace").decode("latin-1").replace("\r", "").replace("\n", ""),
    }
    if not path.startswith(PREFIX) and isinstance(body, dict) and path not in ("/knn-service", "/metadata"):
        options = {
            "data": {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in body.items()}
        }
    text = {_plain(key): _plain(value) for key, value in query.items()} if isinstance(query, dict) else _plain(query)
    headers = {} if path.startswith(PREFIX) else {"HX-Request": "true"}
    try:
        answer = client.open(
            _plain(path).partition("?")[0].partition("#")[0],
            method=method,
            query_string=text,
            headers=headers,
            **options,
        )
    except (UnicodeError, UsageError) as error:
        raise UsageError(f"the client cannot send that: {type(error).__name__}") from error
    _answered(answer)


def _plain(value: object) -> str:
    """Return a value as a client could put it into an address."""
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace").decode()[:20_000]
