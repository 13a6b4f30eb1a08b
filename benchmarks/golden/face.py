"""Every name of the package that the golden check uses. After a rename this is the only module of the check to change.

The functions return plain values (arrays, numbers, texts, dicts of these) under names that belong to the check, so that
a new name of a field does not change a digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from numpy.typing import ArrayLike, NDArray

import gpubranches as gb
from gpubranches.app import create_app
from gpubranches.cli import cli
from gpubranches.encoders import open_embedder

BACKENDS = ("oracle", "cpu", "kdtree")
"""Backends that run on the processor."""
MODELS = ("ensemble", "branch", "ensemble-classic", "branch-classic", "forest", "tree", "linear")
EXPORTS = ("csv", "parquet", "json", "jsonl", "coco", "img2dataset", "links")
PARTS = ("all", "sure", "likely", "borderline", "below", "new", "gone")
API = "/api/v1"

Value = dict[str, Any]

OLD_NAMES: dict[str, str] = {}
"""Names in JSON that the command line and the API have changed since the file was written: new name -> old name."""
UNTOLD = (
    "seconds",
    "ms",
    "milliseconds",
    "took_ms",
    "timings_ms",
    "used_s",
    "session",
    "event",
    "verdict",
    "reason",
    "detail",
)
"""Names in JSON whose values are times, random, or prose."""


# The command line


def command(*arguments: Any) -> str:
    """Run a command in this process; return its standard output. Raises its error."""
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    if done.exit_code:
        raise RuntimeError(f"gpubranches {' '.join(map(str, arguments))}: expected exit code 0, got {done.output}")
    return done.stdout


def command_json(*arguments: Any) -> Any:
    """Run a command with --json; return its output in the form of `told`."""
    return told(json.loads(command(*arguments, "--json")))


def told(value: Any) -> Any:
    """Return JSON with the names of the file, without the keys of `UNTOLD`."""
    if isinstance(value, dict):
        return {OLD_NAMES.get(name, name): told(held) for name, held in value.items() if name not in UNTOLD}
    return [told(held) for held in value] if isinstance(value, list) else value


def evaluation(*arguments: Any) -> Any:
    """Run `gpubranches evaluate`; return its numbers without descriptions."""
    report = command_json("evaluate", *arguments)
    numbers = ("n", "concepts", "skipped", "means", "differences", "precision", "values")
    found = {name: report[name] for name in numbers}
    return {**found, "rounds": {name: report["rounds"][name] for name in ("means", "differences", "values")}}


# The API


@contextmanager
def api_client(catalog: gb.Catalog, backend: Any, embedder: Any) -> Iterator[Any]:
    """Yield Flask's test client of the page and the API."""
    app = create_app(catalog, backend, embedder=embedder)
    try:
        yield app.test_client()
    finally:
        app.extensions["gpubranches"].service.close()


# Python: catalogs


def open_catalog(path: Path) -> gb.Catalog:
    """Open a catalog."""
    return gb.Catalog.open(path)


def open_backend(name: str, catalog: gb.Catalog) -> Any:
    """Open a backend as a context manager."""
    return gb.open_backend(name, catalog)


def embedder_of(spec: str) -> Any:
    """Open an embedder."""
    return open_embedder(spec)


def items(catalog: gb.Catalog, ids: ArrayLike) -> list[Value]:
    """Return the metadata of items."""
    return catalog.items(ids)


def rows(catalog: gb.Catalog) -> Value:
    """Return every live item's id and code, and its embedding if there are embeddings."""
    ids = np.arange(catalog.next_id)
    ids = ids[catalog.alive(ids)]
    return {
        "ids": ids,
        "codes": catalog.codes(ids),
        "embeddings": catalog.embeddings(ids) if catalog.has_embeddings else None,
        "coding": catalog.coding,
    }


def let_in(catalog: gb.Catalog, condition: str) -> NDArray[np.int64]:
    """Return the ids of the items that meet a condition, ascending."""
    ids = np.arange(catalog.next_id)
    ids = ids[catalog.alive(ids)]
    return ids[catalog.inside(ids, catalog.where(condition))]


# Python: backends


def boxes_of(members: Sequence[tuple[int, list[int], list[int], list[int]]], n_estimators: int) -> gb.Boxes:
    """Return boxes from (estimator, features, low, high)."""
    found = [gb.Box(np.array(f, np.int16), np.array(low, np.uint8), np.array(h, np.uint8)) for _, f, low, h in members]
    return gb.Boxes(found, [estimator for estimator, *_ in members], n_estimators)


def apply(backend: Any, boxes: gb.Boxes, condition: str | None = None, **options: Any) -> Value:
    """Return the items that boxes select."""
    where = None if condition is None else backend.catalog.where(condition)
    return _candidates(backend.apply(boxes, where=where, **options))


def held(backend: Any, boxes: gb.Boxes) -> Value:
    """Return the ids of the items with a vote, ascending."""
    ids = np.arange(backend.catalog.next_id)
    ids = ids[backend.catalog.alive(ids)]
    inside = ids[backend.catalog.inside(ids, backend.within(boxes))]
    return {"ids": inside, "total": len(inside)}


def score(backend: Any, weights: NDArray[np.float32], tier: str, **options: Any) -> Value:
    """Return the items best by a linear score."""
    return _candidates(backend.score(weights, tier=tier, **options))


def search_vectors(backend: Any, queries: NDArray[Any], k: int, tier: str) -> Value:
    """Return the nearest items of several queries."""
    return _neighbors(backend.search(queries, k, tier=tier))


def _candidates(found: gb.Candidates) -> Value:
    return {"ids": found.ids, "total": found.total, "votes": found.votes, "scores": found.scores}


def _neighbors(found: gb.Neighbors) -> Value:
    return {"ids": found.ids, "distances": found.distances, "source": found.source}


def _hits(found: gb.Hits, k: int) -> Value:
    """Return hits as a batch of one row, padded to k items with -1 and inf, as in the recorded digests."""
    lacking = min(k, max(1, found.catalog.n)) - len(found)
    ids = np.append(found.ids, np.full(lacking, -1, np.int64))[None]
    distances = np.append(found.distances, np.full(lacking, np.inf, np.float32))[None]
    return {"ids": ids, "distances": distances, "source": found.source}


# Python: sessions


def session_of(catalog: gb.Catalog, backend: Any, embedder: Any = None, seed: int = 0) -> gb.Session:
    """Open a session."""
    return gb.Session(catalog, backend, embedder=embedder, seed=seed)


def ask(session: gb.Session, text: str, k: int, **options: Any) -> Value:
    """Search by a text."""
    return _hits(session.search(text, k, **options), k)


def like(session: gb.Session, item: int, k: int, **options: Any) -> Value:
    """Search by an item."""
    return _hits(session.search(item, k, **options), k)


def by_vector(session: gb.Session, vector: NDArray[Any], k: int, **options: Any) -> Value:
    """Search by an embedding or a code."""
    return _hits(session.search(vector, k, **options), k)


def by_picture(session: gb.Session, picture: Any, k: int) -> Value:
    """Search by a picture."""
    return _hits(session.search(picture, k), k)


def mark(session: gb.Session, ids: NDArray[np.int64], right: NDArray[np.bool_], origin: str = "user") -> None:
    """Mark items by the truth. right: (n,) bool, by id."""
    for label, chosen in ((+1, ids[right[ids]]), (-1, ids[~right[ids]])):
        if len(chosen):
            session.mark(chosen, label, origin=origin)


def refine(session: gb.Session, model: str = "ensemble", **options: Any) -> Value:
    """Find all; return the answer."""
    session.refine(model, **options)  # type: ignore[arg-type]
    return answer(session)


def recut(session: gb.Session, lean: float) -> Value:
    """Move the cut of the last answer; return the new answer."""
    session.recut(lean)
    return answer(session)


def estimate(session: gb.Session) -> Value:
    """Estimate the completeness of the last answer again; return the new answer."""
    session.estimate()
    return answer(session)


def answer(session: gb.Session) -> Value:
    """Return the last answer whole, without times."""
    found = session.last_answer()
    ranking = found.ranking
    return {
        "ids": ranking.ids,
        "scores": ranking.scores,
        "votes": ranking.votes,
        "matched": ranking.matched,
        "tiers": ranking.tiers,
        "total": ranking.total,
        "candidates": ranking.candidates,
        "threshold": ranking.threshold,
        "spread": ranking.score_std,
        "lean": ranking.lean,
        "precision": ranking.precision,
        "recall": ranking.recall,
        "source": ranking.source,
        "min_votes": found.min_votes,
        "boxes": None if session.boxes is None else session.boxes.to_json(),
        "parts": {name: found.parts[name].ids for name in PARTS if name in found.parts},
    }


def next_step(session: gb.Session, target: float, count: int) -> Value:
    """Return what to mark next towards a share of all right items."""
    step = session.next(target, count)
    return {"ids": step.ids, "kind": step.kind, "recall": step.recall, "checks": step.checks, "done": step.done}


def suggest(session: gb.Session, count: int) -> Value:
    """Return the items whose marks would help most."""
    return {"ids": session.suggest(count)}


def audit(session: gb.Session, count: int) -> Value:
    """Return items to check."""
    return {"ids": session.audit(count)}


def explain(session: gb.Session, item: int) -> Value:
    """Return why an item is in the last answer or is not."""
    why: Value = told(session.explain(item).to_json())
    return why


def export(session: gb.Session, path: Path, format: str) -> int:
    """Write the matches of the last answer; return how many."""
    return session.export(path, format)
