"""Simulated users on the evaluation's data: single classes, broad ideas, and the draws of `gpubranches evaluate`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.golden import face
from benchmarks.golden.asking import Asked, explain, first_page, play, seek
from benchmarks.golden.files import catalog_files, without_folder
from benchmarks.golden.record import Answers

FOLDERS = ("caltech101", "pets_dtd", "distractors")
CLASSES = ("kangaroo", "dalmatian", "umbrella", "grand_piano", "pug", "striped")
"""Single classes by name: three that are words of the vocabulary, and three whose query is an item."""
IDEAS = ("dog", "animal", "musical instrument", "vehicle")
ROUNDS = 3


def draws(answers: Answers, folder: Path, data: Path) -> None:
    """Ingest the unchanged data, and play users on it."""
    text, path = data / "text", folder / "catalog"
    words = f"vocabulary:{text / 'text_emb_0.npy'},{text / 'names.json'}"
    inputs = [_input(data / name, folder / name) for name in FOLDERS]
    face.command("ingest", *inputs, "--out", path, "--embedder", words)
    answers.add("draws/ingested", without_folder(catalog_files(path, folder), data))
    catalog, embedder = face.open_catalog(path), face.embedder_of(words)
    labels = face.items(catalog, np.arange(catalog.next_id))
    with face.open_backend("cpu", catalog) as backend:
        asked = Asked(answers, "draws", catalog, backend, embedder)
        for name, query, right in _tasks(data, labels):
            _play(asked, name, query, right)
    _evaluate(answers, path, data)


def _input(source: Path, folder: Path) -> Path:
    """Copy a folder of the data without pictures, and add a column `dataset` if it has none; return the copy."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    shutil.copyfile(source / "img_emb/img_emb_0.npy", folder / "img_emb/img_emb_0.npy")
    table = pq.read_table(source / "metadata/metadata_0.parquet")
    kept = {name: table[name] for name in ("dataset", "label", "caption") if name in table.column_names}
    columns = {"dataset": pa.array([source.name] * table.num_rows), **kept}
    pq.write_table(pa.table(columns), folder / "metadata/metadata_0.parquet")
    return folder


def _play(asked: Asked, name: str, query: str | None, right: NDArray[np.bool_]) -> None:
    session = asked.session(seed=1)
    page = face.like(session, int(np.flatnonzero(right)[0]), 100) if query is None else face.ask(session, query, 100)
    asked.add(f"{name}/page", page)
    face.mark(session, first_page(page, right), right)
    asked.add(f"{name}/votes", face.refine(session, second_stage=False))
    asked.add(f"{name}/linear", face.refine(session, "linear"))
    play(asked, session, right, ROUNDS, name, query=query)
    explain(asked, session, np.flatnonzero(right)[:3].tolist(), name)
    seek(asked, session, right, f"{name}/seek", steps=2)


def _tasks(data: Path, labels: list[dict[str, Any]]) -> Iterator[tuple[str, str | None, NDArray[np.bool_]]]:
    """Yield the name, the query and the truth, (n,) bool, of each task; for None the query is the first right item."""
    names = json.loads((data / "text/names.json").read_text(encoding="utf-8"))
    known = {name.lower() for name in names}
    for name in CLASSES:
        right = np.array([row.get("caption") == name for row in labels])
        words = name.replace("_", " ")
        yield name, words if words in known else None, right
    groups = json.loads((data / "broad.json").read_text(encoding="utf-8"))
    for name in IDEAS:
        group = groups[name]
        chosen = {key: set(group[key]) for key in group if key not in ("query", "ignore", "distractors")}
        yield f"idea {name}", group["query"], np.array([_is_in(row, chosen) for row in labels])


def _is_in(row: dict[str, Any], chosen: dict[str, set[Any]]) -> bool:
    """Return whether an item has one of the classes, by number or name, of a data set with the key in its name."""
    dataset = str(row.get("dataset") or "")
    return any(
        key in dataset and (row.get("label") in classes or row.get("caption") in classes)
        for key, classes in chosen.items()
    )


def _evaluate(answers: Answers, path: Path, data: Path) -> None:
    """Add every number that `gpubranches evaluate` prints for a few classes and for the ideas, without times."""
    usual = ("--seeds", 1, "--backend", "cpu")
    classes = face.evaluation(
        path, *usual, "--concepts", 5, "--positives", 8, "--rounds", 2,
        "--models", "text,refine,ensemble,branch,prototype", "--policies", "suggested,uncertain",
    )  # fmt: skip
    answers.add("draws/evaluate classes", without_folder(classes, data))
    ideas = face.evaluation(
        path, *usual, "--concepts", 4, "--groups", data / "broad.json", "--rounds", 1,
        "--models", "refine,text", "--policies", "suggested",
    )  # fmt: skip
    answers.add("draws/evaluate ideas", without_folder(ideas, data))
