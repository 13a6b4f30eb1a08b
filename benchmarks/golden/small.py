"""Operations on the catalog in tests/golden and on small synthetic ones; each part fills a folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.golden import face, inputs
from benchmarks.golden.asking import (
    Asked,
    ask_boxes,
    ask_embeddings,
    ask_models,
    each_backend,
    explain,
    first_page,
    play,
    seek,
)
from benchmarks.golden.doors import api, cli
from benchmarks.golden.files import catalog_files, exported, without_folder
from benchmarks.golden.record import Answers

STORED = Path(__file__).resolve().parents[2] / "tests/golden/catalog-1"
STORED_MARKS = np.array([0, 7, 14, 21, 28, 1, 2, 3])
CONDITIONS = (
    "label = 2",
    "label IN (0, 3) AND NOT price > 50",
    "kind LIKE 'k%' OR caption IS NULL",
    "caption ILIKE '%É' AND seen < '2023-12-01'",
    "price BETWEEN 1 AND 20 AND kind != 'background'",
)


def stored(answers: Answers, folder: Path) -> None:
    """Query a catalog of format version 1, which no present code writes."""
    path = folder / "catalog"
    shutil.copytree(STORED, path)
    catalog = face.open_catalog(path)
    answers.add("stored/rows", face.rows(catalog), everywhere=True)
    answers.add("stored/items", face.items(catalog, [0, 3, 149]), everywhere=True)
    answers.add("stored/info", _info(path, folder), everywhere=True)
    right = np.arange(catalog.next_id) % 7 == 0
    with each_backend(answers, "stored", catalog) as backends:
        for asked in backends:
            ask_boxes(asked)
            ask_embeddings(asked)
            session = asked.session()
            asked.add("like", face.like(session, 42, 30))
            asked.add("like by codes", face.like(session, 42, 30, by_codes=True), everywhere=True)
            asked.add("where", face.like(session, 42, 30, where="price > 14.2"))
            face.mark(session, STORED_MARKS, right)
            ask_models(asked, session)
    catalog.delete([5, 6, 149])
    face.command("compact", path)
    answers.add("stored/compacted", catalog_files(path, folder), everywhere=True)


def codes(answers: Answers, folder: Path) -> None:
    """Query a catalog of codes alone, with two inputs and some deleted items."""
    labels, path = inputs.write_codes(folder), folder / "catalog"
    face.command("ingest", folder / "codes.npy", "--out", path)
    answers.add("codes/ingested", catalog_files(path, folder), everywhere=True)
    face.command("append", path, folder / "more.u8bin")
    face.command("delete", path, "7,50,1850,1999")
    answers.add("codes/appended", catalog_files(path, folder), everywhere=True)
    catalog = face.open_catalog(path)
    right = labels == 2
    with each_backend(answers, "codes", catalog) as backends:
        for asked in backends:
            ask_boxes(asked)
            session = asked.session()
            found = face.like(session, int(np.flatnonzero(right)[3]), 60)
            asked.add("like", found, everywhere=True)
            face.mark(session, first_page(found, right), right)
            ask_models(asked, session, staged=False)
            play(asked, session, right, 1)
    face.command("compact", path)
    answers.add("codes/compacted", catalog_files(path, folder), everywhere=True)


def classes(answers: Answers, folder: Path) -> None:
    """Query a catalog of embeddings with words and metadata, with two inputs and some deleted items."""
    labels, path = inputs.write_classes(folder), folder / "catalog"
    _ingest_classes(folder, path)
    answers.add("classes/ingested", catalog_files(path, folder))
    face.command("append", path, folder / "later")
    face.command("delete", path, "3,700,1199")
    answers.add("classes/appended", catalog_files(path, folder))
    catalog, embedder = face.open_catalog(path), face.embedder_of(_words(folder))
    for condition in CONDITIONS:
        answers.add(f"classes/where {condition}", face.let_in(catalog, condition), everywhere=True)
    with each_backend(answers, "classes", catalog, embedder) as backends:
        for asked in backends:
            _ask_classes(asked, labels)
            _play_classes(asked, labels, folder if asked.backend.name == "cpu" else None)


def _ingest_classes(folder: Path, path: Path, *options: Any) -> None:
    face.command("ingest", folder / "first", "--out", path, "--embedder", _words(folder), *options)


def _words(folder: Path) -> str:
    return f"vocabulary:{folder}/text/emb.npy,{folder}/text/names.json"


def _ask_classes(asked: Asked, labels: NDArray[np.int64]) -> None:
    session, rows = asked.session(), face.rows(asked.catalog)
    ask_boxes(asked)
    ask_embeddings(asked)
    asked.add("text", face.ask(session, "teapot", 200))
    asked.add("text where", face.ask(session, "teapot", 200, where=CONDITIONS[1]))
    asked.add("terms", face.ask(session, 'teapot + #12 - "red car"', 100))
    asked.add("like", face.like(session, 12, 100))
    asked.add("like all", face.like(session, 12, 10_000))
    asked.add("like by codes", face.like(session, 12, 100, by_codes=True))
    asked.add("vector", face.by_vector(session, rows["embeddings"][40], 100))
    asked.add("code", face.by_vector(session, rows["codes"][40], 100))
    right = labels == inputs.NAMES.index("bicycle")
    face.mark(session, first_page(face.ask(session, "bicycle", 100), right), right)
    ask_models(asked, session, query="bicycle")
    asked.add("refine/where", face.refine(session, where=CONDITIONS[4]))
    for model in ("ensemble", "branch"):
        face.refine(session, model, second_stage=False)
        explain(asked, session, [1, 12, int(np.flatnonzero(right)[5])], model)


def _play_classes(asked: Asked, labels: NDArray[np.int64], folder: Path | None) -> None:
    """Play rounds on two classes, one by votes alone; write the matches to files in a folder."""
    for name, options in (("red car", {"query": "red car"}), ("sunset", {"second_stage": False})):
        right, session = labels == inputs.NAMES.index(name), asked.session(seed=3)
        face.mark(session, first_page(face.ask(session, name, 100), right), right)
        play(asked, session, right, 3, f"play {name}", **options)
    if folder is not None:
        for format in ("csv", "parquet", "json", "jsonl", "img2dataset"):
            out = folder / f"{format}.{'parquet' if format == 'img2dataset' else format}"
            written = face.export(session, out, format)
            asked.add(f"export/{format}", {"written": written, "file": exported(out, folder)})
            if format == "parquet":
                asked.add("export/parquet bytes", out.read_bytes())
    right, session = labels == inputs.NAMES.index("kangaroo"), asked.session(seed=4)
    face.mark(session, first_page(face.ask(session, "kangaroo", 100), right), right)
    seek(asked, session, right, "seek")


def encoded(answers: Answers, folder: Path) -> None:
    """Encode a catalog of embeddings by every head and quantizer, and compact it."""
    labels, path = inputs.write_classes(folder), folder / "catalog"
    _ingest_classes(folder, path, "--head", "pca", "--dims", 16)
    face.command("append", path, folder / "later")
    face.command("delete", path, "0,1,2,1198")
    right = labels == 1
    for head, dims, quantizer in (
        ("pca", 16, "quantile"),
        ("rca", 24, "quantile"),
        ("rca", 8, "uniform"),
        ("none", 48, "quantile"),
        ("none", 48, "uniform"),
    ):
        size = () if head == "none" else ("--dims", dims)
        face.command("encode", path, "--head", head, *size, "--quantizer", quantizer)
        name = f"encoded/{head} {dims} {quantizer}"
        answers.add(f"{name}/files", catalog_files(path, folder))
        _find(answers, name, path, right)
    face.command("compact", path)
    answers.add("encoded/compacted/files", catalog_files(path, folder))
    _find(answers, "encoded/compacted", path, right)


def _find(answers: Answers, name: str, path: Path, right: NDArray[np.bool_]) -> None:
    """Search and find all on the cpu backend."""
    catalog = face.open_catalog(path)
    with face.open_backend("cpu", catalog) as backend:
        session, item = face.session_of(catalog, backend), int(np.flatnonzero(right)[4])
        answers.add(f"{name}/like", face.like(session, item, 50))
        answers.add(f"{name}/like by codes", face.like(session, item, 50, by_codes=True))
        face.mark(session, first_page(face.like(session, item, 100), right), right)
        answers.add(f"{name}/refine", face.refine(session))
        answers.add(f"{name}/refine votes", face.refine(session, second_stage=False))


def arrays(answers: Answers, folder: Path) -> None:
    """Query a catalog of two arrays of embeddings without words or metadata."""
    path = folder / "catalog"
    inputs.write_arrays(folder)
    face.command("ingest", folder / "first.npy", folder / "more.fbin", "--out", path)
    answers.add("arrays/ingested", catalog_files(path, folder))
    _find(answers, "arrays", path, np.arange(300) % 30 == 3)


def pictures(answers: Answers, folder: Path) -> None:
    """Query a catalog of a folder of pictures, embedded by the demo's model."""
    path = folder / "catalog"
    inputs.write_pictures(folder / "pictures")
    face.command("ingest", folder / "pictures", "--out", path, "--embedder", "demo", "--head", "pca", "--dims", 8)
    answers.add("pictures/ingested", catalog_files(path, folder))
    answers.add("pictures/errors", without_folder(face.command("info", path, "--errors", "--json"), folder))
    catalog, embedder = face.open_catalog(path), face.embedder_of("demo")
    right = np.arange(catalog.next_id) % 4 == 1
    with each_backend(answers, "pictures", catalog, embedder) as backends:
        for asked in backends:
            session = asked.session()
            asked.add("text", face.ask(session, "a red circle", 20))
            with Image.open(folder / "pictures/00.png") as picture:
                asked.add("picture", face.by_picture(session, picture, 20))
            face.mark(session, np.array([1, 5, 0, 2]), right)
            asked.add("refine", face.refine(session))
            if asked.backend.name == "cpu":
                for format, ending in (("coco", "coco.json"), ("links", "tar"), ("csv", "csv")):
                    out = folder / f"matches.{ending}"
                    written = face.export(session, out, format)
                    asked.add(f"export/{format}", {"written": written, "file": exported(out, folder)})


def broad(answers: Answers, folder: Path) -> None:
    """Query a catalog of kinds within groups for a group; on the cpu backend also for a kind, and for two groups."""
    (groups, kinds), path = inputs.write_groups(folder), folder / "catalog"
    face.command("ingest", folder / "images", "--out", path, "--embedder", _words(folder))
    catalog, embedder = face.open_catalog(path), face.embedder_of(_words(folder))
    with each_backend(answers, "broad", catalog, embedder) as backends:
        for asked in backends:
            _play_idea(asked, "group 1", groups == 1)
            if asked.backend.name == "cpu":
                for name, right in (("kind 7", kinds == 7), ("two groups", np.isin(groups, (0, 2)))):
                    seek(asked, _play_idea(asked, name, right), right, f"{name}/seek", steps=6)


def _play_idea(asked: Asked, name: str, right: NDArray[np.bool_]) -> Any:
    """Play an idea that is requested by name, if the vocabulary has it, else by an item; return the session."""
    session, named = asked.session(seed=5), name != "two groups"
    page = face.ask(session, name, 100) if named else face.like(session, int(np.flatnonzero(right)[0]), 100)
    face.mark(session, first_page(page, right), right)
    play(asked, session, right, 3, name, query=name if named else None)
    return session


def heads(answers: Answers, folder: Path) -> None:
    """Train a small head, and query a catalog with it that stores no embeddings."""
    labels, head, path = inputs.write_classes(folder), folder / "head.safetensors", folder / "catalog"
    np.save(folder / "emb.npy", np.load(folder / "first/img_emb/img_emb_0.npy"))
    options = ("--dim", 8, "--hidden", "16", "--batch", 128, "--epochs", 3, "--embedder", _words(folder))
    face.command("train-head", folder / "emb.npy", "--out", head, *options, "--device", "cpu")
    answers.add("heads/head", head.read_bytes())
    _ingest_classes(folder, path, "--head", head, "--no-embeddings")
    answers.add("heads/ingested", catalog_files(path, folder))
    catalog, embedder = face.open_catalog(path), face.embedder_of(_words(folder))
    right = labels[: catalog.next_id] == 1
    with each_backend(answers, "heads", catalog, embedder) as backends:
        for asked in backends:
            session = asked.session()
            asked.add("text by codes", face.ask(session, "teapot", 60, by_codes=True))
            found = face.ask(session, inputs.NAMES[1], 100)
            asked.add("text", found)
            face.mark(session, first_page(found, right), right)
            asked.add("refine", face.refine(session))
            asked.add("refine linear", face.refine(session, "linear"))


def _info(path: Path, folder: Path) -> Any:
    return without_folder(face.command_json("info", path), folder)


PARTS: dict[str, Callable[[Answers, Path], None]] = {
    "stored": stored,
    "codes": codes,
    "classes": classes,
    "encoded": encoded,
    "arrays": arrays,
    "pictures": pictures,
    "broad": broad,
    "heads": heads,
    "cli": cli,
    "api": api,
}
BY_TORCH = ("pictures", "heads")
"""Parts that need torch."""
