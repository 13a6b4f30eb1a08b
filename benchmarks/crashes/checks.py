"""Read the content of a folder after a fault, and check whether the guarantees hold."""

from __future__ import annotations

import gc
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.crashes.world import run
from gpubranches import Catalog
from gpubranches.app.picture_routes import THUMBNAIL_SIZES
from gpubranches.catalog import problems_at
from gpubranches.catalog.manifest import own_files, read_manifest
from gpubranches.catalog.pictures.image_files import picture_of
from gpubranches.core.embedding_space import digest
from gpubranches.engines.kdtree.files import fingerprint
from gpubranches.engines.kdtree.files import problems as index_problems
from gpubranches.engines.kdtree.files import read_manifest as read_index
from gpubranches.service.database import problems as marks_problems
from gpubranches.service.labels import Labels
from gpubranches.service.session_store import SessionStore
from gpubranches.service.thumbnails import read_kept, thumbnail

LOG = "labels.sqlite"


def catalog_of(work: Path) -> Path:
    """Return the path of the catalog of a scenario."""
    return work / "new/c" if (work / "new").exists() else work / "c"


def damage(work: Path) -> list[str]:
    """Return the problems that `verify` finds."""
    path = catalog_of(work)
    found = problems_at(path) if (path / "manifest.json").exists() else []
    found += index_problems(path / "kdtree") + marks_problems(path / LOG)
    return found or _wrong_thumbnails(path)


def _wrong_thumbnails(path: Path) -> list[str]:
    """Return the kept thumbnails that are no thumbnail of an item."""
    kept = [jpeg for file in path.glob("thumbnails/*/*.jpg") if (jpeg := read_kept(file))]
    if not kept:
        return []
    catalog = Catalog.open(path)
    ids = np.arange(catalog.next_id)
    pictures = [picture_of(catalog.source, item) for item in catalog.items(ids[catalog.alive(ids)])]
    right = {thumbnail(each, THUMBNAIL_SIZES["small"]) for each in pictures if each is not None}
    return [f"{len(jpeg)} bytes are no thumbnail" for jpeg in kept if jpeg not in right]


def content(work: Path) -> dict[str, Any]:
    """Return all content that a user can read from a folder: the catalog, its index, its marks, and other files.

    For a damaged catalog, the problems that `verify` finds.
    """
    if told := damage(work):
        return {"damage": told}
    path = catalog_of(work)
    others = [entry for entry in work.iterdir() if entry.name not in ("c", "new") and not _is_partial(entry)]
    return {
        "catalog": _catalog(path) if (path / "manifest.json").exists() else None,
        "index": (path / "kdtree").exists() and read_index(path / "kdtree", "")["codes"] == _codes(path),
        "marks": _marks(path / LOG) if (path / LOG).exists() else [],
        "files": {entry.name: _file(entry) for entry in sorted(others)},
    }


def _codes(path: Path) -> str:
    return fingerprint(Catalog.open(path))


def _is_partial(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name.endswith((".partial", ".training"))


def _catalog(path: Path) -> dict[str, Any]:
    catalog = Catalog.open(path)
    ids = np.arange(catalog.next_id)
    ids = ids[catalog.alive(ids)]
    source = catalog.source
    stored = (catalog.codes(ids), catalog.embeddings(ids) if catalog.has_embeddings and len(ids) else b"")
    return {
        "ids": ids.tolist(),
        "next": catalog.next_id,
        "deleted": catalog.n_deleted,
        "d": catalog.d,
        "space": catalog.space.to_json(),
        "rows": digest(*stored),
        "stores": catalog.stores_embeddings,
        "items": repr(catalog.items(ids)),
        "errors": catalog.errors(),
        "inputs": _inputs(source.get("inputs", []), catalog.next_id),
        "places": (source.get("roots"), source.get("moved")),
    }


def _inputs(records: list[dict[str, Any]], next_id: int) -> list[Any]:
    """Return the inputs with the last id of each; a stopped and a resumed run count as one."""
    told: list[Any] = []
    for record, end in zip(records, [*(each["base"] for each in records), next_id][1:], strict=True):
        if told and told[-1][0] == record["paths"]:
            told.pop()
        if end > record["base"]:
            told.append((record["paths"], end))
    return told


def _marks(log: Path) -> list[Any]:
    """Return the sessions by name, with seed and marks; their ids differ between runs."""
    store, told = SessionStore.open(log), set()
    for record in store.records(1000):
        marks = Labels(store.database, record.session).current()
        told.add((record.name, record.settings.get("seed"), tuple(marks.items())))
    store.close()
    return sorted(told, key=repr)


def _file(path: Path) -> Any:
    if path.is_symlink() or path.is_dir():
        below = sorted(path.rglob("*"))
        return [(str(each.relative_to(path)), str(each.readlink()) if each.is_symlink() else each.is_dir() or
                 digest(each.read_bytes())) for each in below]  # fmt: skip
    if path.suffix == ".tar" and path.stat().st_size:
        with tarfile.open(path) as file:
            return [(each.name, each.linkname) for each in file]
    return digest(path.read_bytes())


def leftovers(work: Path, files: dict[str, Any]) -> list[str]:
    """Return the files without any reference to them. files: the files beside the catalog, by name."""
    path = catalog_of(work)
    named = {path / "manifest.json", path / "lock", *(path / f"{LOG}{end}" for end in ("", "-wal", "-shm"))}
    if (path / "manifest.json").exists():
        manifest = read_manifest(path)
        named |= {path / name for name in own_files(manifest)}
        named |= {path / entry["name"] / name for entry in manifest["segments"] for name in entry["files"]}
    if (path / "kdtree").exists():
        named |= {path / "kdtree" / name for name in [*read_index(path / "kdtree", "")["files"], "manifest.json"]}
    named |= {*path.glob("scenes/*.npy"), *path.glob("thumbnails/*/*")}  # caches; the latter is bounded
    every = [each for each in work.rglob("*") if each.is_symlink() or not each.is_dir()]
    return [
        str(each.relative_to(work))
        for each in every
        if each not in named and "damaged" not in each.parts and each.relative_to(work).parts[0] not in files
    ]


def goes_on(work: Path, final: dict[str, Any]) -> str:
    """Delete an item, as a next command may; return the problem, "" for none."""
    path = catalog_of(work)
    gc.collect()  # a served app holds leases on the files of its catalog
    if (path / "manifest.json").exists() and final["catalog"]["ids"]:
        item = final["catalog"]["ids"][-1]
        if status := run("delete", str(path), str(item)):
            return f"the next command ends with status {status}"
        with Catalog.open(path).writing():  # removes the earlier bitmap
            pass
        ids = np.array(final["catalog"]["ids"])
        alive = Catalog.open(path).alive(ids)
        if problems_at(path) or alive.sum() != len(ids) - 1 or alive[-1]:
            return "the next command does not do what it is to do"
    left = leftovers(work, final["files"])
    return f"nothing removes {', '.join(left[:3])}" if left else ""
