"""The queries that the golden check runs on every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.golden import face
from benchmarks.golden.record import Answers

Ids = NDArray[np.int64]
SHOWN, RIGHT, WRONG = 100, 8, 20
"""Items of a first page, and how many of them a user marks right and wrong."""
ROUND = 20
"""Items marked a round."""
OPTIONS = (("lean", -0.6), ("lean", 0.7), ("negative_weight", 0.5), ("random_negatives", 0))
"""Operations tested on one backend only, because the code above the backends is the same for all."""


@dataclass(frozen=True)
class Asked:
    """A catalog, one backend over it and the start of the names of its answers."""

    answers: Answers
    name: str
    catalog: Any
    backend: Any
    embedder: Any = None

    def add(self, name: str, value: Any, **kind: bool) -> None:
        """Add an answer below the name; kind: as of `Answers.add`."""
        self.answers.add(f"{self.name}/{name}", value, **kind)

    def session(self, seed: int = 0) -> Any:
        """Return a new session."""
        return face.session_of(self.catalog, self.backend, self.embedder, seed)


@contextmanager
def each_backend(answers: Answers, name: str, catalog: Any, embedder: Any = None) -> Iterator[list[Asked]]:
    """Yield a catalog with each backend of the processor; its index is built before."""
    face.command("index", catalog.path)
    opened = []
    try:
        for backend in face.BACKENDS:
            opened.append(face.open_backend(backend, catalog))
        yield [Asked(answers, f"{name}/{one.name}", catalog, one, embedder) for one in opened]
    finally:
        for one in opened:
            one.close()


def ask_boxes(asked: Asked, *, seed: int = 0) -> None:
    """Apply random boxes, and search and score codes: all by integers."""
    rng = np.random.default_rng(seed)
    d, items = asked.catalog.d, face.rows(asked.catalog)
    members = []
    for _ in range(24):
        count = int(rng.integers(1, 4))
        features = rng.choice(d, count, replace=False)
        low = rng.integers(0, 200, count)
        high = np.minimum(255, low + rng.integers(20, 160, count))
        members.append((int(rng.integers(0, 7)), features.tolist(), low.tolist(), high.tolist()))
    boxes = face.boxes_of(members, 8)
    choices: dict[str, dict[str, Any]] = {"all": {}, "3 votes": {"min_votes": 3}, "best 50": {"limit": 50}}
    for name, options in choices.items():
        asked.add(f"boxes/{name}", face.apply(asked.backend, boxes, **options), everywhere=True)
    asked.add("boxes/held", face.held(asked.backend, boxes), everywhere=True)
    queries = items["codes"][rng.integers(0, len(items["codes"]), 3)]
    for k in (1, 50):
        found = face.search_vectors(asked.backend, queries, k, "codes")
        asked.add(f"codes/nearest {k}", found, everywhere=True)
    weights = rng.integers(-8, 9, d).astype(np.float32)
    asked.add("codes/score", face.score(asked.backend, weights, "codes", limit=60), everywhere=True)
    asked.add("codes/score in boxes", face.score(asked.backend, weights, "codes", boxes=boxes), everywhere=True)


def ask_embeddings(asked: Asked, *, seed: int = 0) -> None:
    """Search and score bits and embeddings by vectors."""
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((3, asked.catalog.D)).astype(np.float32)
    for tier in ("bits", "embeddings"):
        asked.add(f"{tier}/nearest", face.search_vectors(asked.backend, queries, 40, tier))
        asked.add(f"{tier}/score", face.score(asked.backend, queries[0], tier, limit=60))


def ask_models(asked: Asked, session: Any, *, staged: bool = True, query: str | None = None) -> None:
    """Find all by every model from the marks of a session: by votes alone and, staged, with the second stage."""
    for model in face.MODELS:
        if model != "linear":
            asked.add(f"refine/{model} votes", face.refine(session, model, second_stage=False))
        if staged:
            asked.add(f"refine/{model}", face.refine(session, model))
    stages = {"second stage": None, "votes": False} if staged else {"votes": False}
    for name, second_stage in stages.items():
        for option, value in OPTIONS if asked.backend.name == "cpu" else ():
            changed: dict[str, Any] = {option: value}
            found = face.refine(session, second_stage=second_stage, **changed)
            asked.add(f"refine/{name} {option} {value}", found)
    if query is not None:
        asked.add("refine/query", face.refine(session, query=query))


def first_page(found: face.Value, right: NDArray[np.bool_]) -> Ids:
    """Return the items that a user marks of a first page: the first right and the first wrong ones."""
    ids = np.asarray(found["ids"]).reshape(-1)[:SHOWN]
    ids = ids[ids >= 0]
    return np.concatenate([ids[right[ids]][:RIGHT], ids[~right[ids]][:WRONG]])


def play(asked: Asked, session: Any, right: NDArray[np.bool_], rounds: int, name: str = "play", **options: Any) -> None:
    """Repeat: find all, mark the suggestions by the truth. Then check the answer, explain it, and move its cut.

    session: with the marks of the first page; options: of every find all.
    """
    for done in range(rounds + 1):
        asked.add(f"{name}/round {done}", face.refine(session, **options))
        if done < rounds:
            suggested = face.suggest(session, ROUND)
            asked.add(f"{name}/suggested {done}", suggested)
            face.mark(session, suggested["ids"], right, "suggestion")
    drawn = face.audit(session, ROUND)
    asked.add(f"{name}/audit", drawn, drawn=True)
    face.mark(session, drawn["ids"], right, "audit")
    asked.add(f"{name}/audited", face.estimate(session))
    for lean in (-0.5, 0.5):
        asked.add(f"{name}/cut at {lean}", face.recut(session, lean))


def explain(asked: Asked, session: Any, items: Sequence[int], name: str) -> None:
    """Explain items in the last answer."""
    asked.add(f"explain/{name}", [face.explain(session, item) for item in items])


def seek(asked: Asked, session: Any, right: NDArray[np.bool_], name: str, steps: int = 12) -> None:
    """Mark what the program asks for until 95% are found, or for this many steps."""
    face.refine(session)
    for number in range(steps):
        step = face.next_step(session, 0.95, ROUND)
        asked.add(f"{name}/step {number}", step, drawn=True)
        if step["done"]:
            break
        face.mark(session, step["ids"], right, step["kind"])
    asked.add(f"{name}/end", face.answer(session), drawn=True)
