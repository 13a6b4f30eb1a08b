"""Answers of the command line and the API over a synthetic catalog of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.golden import face, inputs
from benchmarks.golden.asking import Ids, first_page
from benchmarks.golden.files import exported, without_folder
from benchmarks.golden.record import Answers

CONDITION = "label IN (1, 2) OR price > 90"
SOUGHT = 4
"""The class to search for."""


def cli(answers: Answers, folder: Path) -> None:
    """Run the commands that read a catalog, and those that write results."""
    labels, path = _made(folder)
    marks = _marks(path, labels)
    face.command("index", path)
    np.save(folder / "vector.npy", face.rows(face.open_catalog(path))["embeddings"][7])
    name = inputs.NAMES[SOUGHT]
    searches: dict[str, tuple[Any, ...]] = {
        "text": (name,),
        "terms": (f"{name} + #3 - teapot", "-k", 20),
        "like": ("--like", 3, "--where", CONDITION),
        "like by codes": ("--like", 3, "--by-codes"),
        "vector": ("--vector", folder / "vector.npy", "-k", 2000),
    }
    refines: dict[str, tuple[Any, ...]] = {
        "default": (),
        "query": ("--query", name, "--limit", 5),
        "branch": ("--model", "branch", "--no-second-stage", "--seed", 3),
        "lean": ("--lean", 0.4, "--negative-weight", 2, "--random-negatives", 50),
        "where": ("--where", CONDITION),
    }
    for backend in face.BACKENDS:
        asked = {f"search {what}": ("search", path, *options) for what, options in searches.items()}
        asked["explain"] = ("explain", path, 3, *marks, "--model", "branch")
        if backend == "cpu":
            asked |= {f"refine {what}": ("refine", path, *marks, *options) for what, options in refines.items()}
        for what, arguments in asked.items():
            answers.add(f"cli/{backend}/{what}", face.command_json(*arguments, "--backend", backend))
    answers.add("cli/sql", face.command("refine", path, *marks, "--no-second-stage", "--sql", "--backend", "cpu"))
    for command in ("info", "verify"):
        answers.add(f"cli/{command}", without_folder(face.command_json(command, path), folder))
    _export(answers, path, folder, marks)
    options = ("--columns", "label", "--name", "kind", "--fewest", 20, "--seeds", 1, "--backend", "cpu")
    played = face.evaluation(
        path, *options, "--concepts", 3, "--positives", "4,8", "--rounds", 1,
        "--models", "text,refine,ensemble,prototype,logistic-codes", "--policies", "suggested,logistic-light",
    )  # fmt: skip
    answers.add("cli/evaluate", without_folder(played, folder))
    few = ("--rounds", 1, "--models", "refine", "--policies", "suggested")
    unions = face.evaluation(path, *options, "--unions", 2, *few)
    answers.add("cli/evaluate unions", without_folder(unions, folder))


def _export(answers: Answers, path: Path, folder: Path, marks: tuple[str, ...]) -> None:
    for ending in ("u8bin", "parquet"):
        out = folder / f"codes.{ending}"
        face.command("export", path, "codes", out)
        answers.add(f"cli/export codes {ending}", out.read_bytes())
    face.command("export", path, "embeddings", folder / "embeddings")
    for out in sorted((folder / "embeddings").rglob("*.*")):
        held = pq.read_table(out).to_pylist() if out.suffix == ".parquet" else out.read_bytes()
        answers.add(f"cli/export {out.relative_to(folder)}", held)
    for ending in ("csv", "jsonl"):
        out = folder / f"matches.{ending}"
        face.command("refine", path, *marks, "--backend", "cpu", "--out", out)
        answers.add(f"cli/export matches {ending}", exported(out, folder))


def api(answers: Answers, folder: Path) -> None:
    """Call the operations of the API as a program does."""
    labels, path = _made(folder)
    catalog, embedder = face.open_catalog(path), face.embedder_of(_words(folder))
    right = labels == SOUGHT
    with face.open_backend("cpu", catalog) as backend, face.api_client(catalog, backend, embedder) as client:
        caller = _Caller(answers, client)
        _look(caller, catalog)
        _find(caller, right)


class _Caller:
    """Calls operations, and records their answers by name."""

    def __init__(self, answers: Answers, client: Any):
        self.answers, self.client = answers, client

    def get(self, name: str, address: str) -> Any:
        """Read an address; of a file its bytes."""
        return self._kept(name, self.client.get(address))

    def post(self, name: str, address: str, /, **body: Any) -> Any:
        """Send a body to an address."""
        return self._kept(name, self.client.post(address, json=body))

    def _kept(self, name: str, got: Any) -> Any:
        answer = got.json if got.is_json and "." not in name else got.data
        kept = answer if isinstance(answer, bytes) else face.told(answer)
        self.answers.add(f"api/{name}", {"status": got.status_code, "type": got.mimetype, "answer": kept})
        return answer


def _look(caller: _Caller, catalog: Any) -> None:
    """Make the requests that need no session."""
    rows = face.rows(catalog)
    for name in ("health", "catalog", "columns", "items/3", "items/99999"):
        caller.get(name, f"{face.API}/{name}")
    caller.get("count", f"{face.API}/count?where=label%20%3D%202")
    for name, body in {
        "text": {"text": "teapot", "k": 30},
        "item": {"item": 12, "where": CONDITION},
        "vector": {"vector": rows["embeddings"][9].tolist(), "k": 15},
        "code": {"code": rows["codes"][9].tolist()},
    }.items():
        caller.post(f"search {name}", f"{face.API}/search", **body)
    asked = {"text": "teapot", "num_images": 5, "num_result_ids": 40, "deduplicate": True}
    caller.post("knn-service", "/knn-service", **asked)


def _find(caller: _Caller, right: NDArray[np.bool_]) -> None:
    """Mark and find all in a session."""
    text = inputs.NAMES[SOUGHT]
    at = f"{face.API}/sessions/" + caller.post("session", f"{face.API}/sessions", name="golden", seed=5)["session"]
    page = caller.post("page", f"{face.API}/search", text=text)
    _mark(caller, "first", at, first_page({"ids": [row["id"] for row in page["items"]]}, right), right)
    caller.post("refine", f"{at}/refine", query=text)
    suggested = np.array([row["id"] for row in caller.get("suggestions", f"{at}/suggestions?count=12")["items"]])
    _mark(caller, "suggested", at, suggested, right, "suggestion")
    caller.post("refine again", f"{at}/refine", query=text, model="branch", lean=0.2)
    for tier in face.PARTS:
        caller.get(f"results {tier}", f"{at}/results?tier={tier}&limit=50")
    checked = np.array([row["id"] for row in caller.post("audit", f"{at}/audit", count=10)["items"]])
    _mark(caller, "checked", at, checked, right, "audit")
    for name, body in {"estimate": {}, "recut": {"lean": -0.5}, "next": {"count": 8, "target_recall": 0.9}}.items():
        caller.post(name, f"{at}/{name}", **body)
    for name in ("undo", "redo"):
        caller.post(name, f"{at}/{name}")
    caller.get("marks", f"{at}/marks")
    for format in ("csv", "json", "jsonl", "parquet", "img2dataset"):
        caller.get(f"matches.{format}", f"{at}/matches.{format}")
    for format in ("sql", "json"):
        caller.get(f"boxes.{format}", f"{at}/boxes.{format}")
    caller.get("explanation", f"{at}/items/3/explanation")
    caller.post("refine votes", f"{at}/refine", second_stage=False, where=CONDITION)
    caller.get("results by votes", f"{at}/results?offset=3&limit=20")
    caller.get("session at the end", at)
    caller.get("session file", f"/sessions/{at.rsplit('/', 1)[1]}.json")


def _mark(caller: _Caller, name: str, at: str, ids: Ids, right: NDArray[np.bool_], origin: str = "user") -> None:
    for label, chosen in ((1, ids[right[ids]]), (-1, ids[~right[ids]])):
        if len(chosen):
            caller.post(f"mark {name} {label}", f"{at}/marks", ids=chosen.tolist(), label=label, origin=origin)


def _made(folder: Path) -> tuple[NDArray[np.int64], Path]:
    """Write and ingest a catalog of classes; return the class of each item and the catalog's path."""
    labels, path = inputs.write_classes(folder, 800), folder / "catalog"
    face.command("ingest", folder / "first", "--out", path, "--embedder", _words(folder))
    face.command("append", path, folder / "later")
    face.command("delete", path, "1,799")
    return labels, path


def _words(folder: Path) -> str:
    return f"vocabulary:{folder}/text/emb.npy,{folder}/text/names.json"


def _marks(path: Path, labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the marks of a first page as options."""
    right = labels == SOUGHT
    found = face.command_json("search", path, inputs.NAMES[SOUGHT], "--backend", "cpu")
    page = first_page(found, right)
    lists = (",".join(map(str, page[right[page]])), ",".join(map(str, page[~right[page]])))
    return ("--positive", lists[0], "--negative", lists[1])
