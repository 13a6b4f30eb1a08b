"""Make the demo catalog: pictures on disk, embedded by the demo's model, with captions and content as metadata."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpubranches.catalog import Catalog, disk_errors
from gpubranches.core.files import output, replace_file, write_npy
from gpubranches.demo.scenes import Scene, attributes, draw_scenes, render
from gpubranches.encoders import open_embedder
from gpubranches.errors import UsageError
from gpubranches.ingestion import ingest
from gpubranches.ingestion.inputs import scan
from gpubranches.ingestion.picture_folder import PictureFolder
from gpubranches.ingestion.staging import PARTITION, StagedPictures, embed_pictures

Progress = Callable[[str, int, int], None]
SCENES = "scenes"
"""Folder of the demo's input inside the catalog's: a clip-retrieval folder with the pictures under images/."""
TRUTH = "scene"
"""The metadata column with the whole scene as JSON."""
_QUALITY = 92
_BATCH = 64
_REPORT_EVERY = 100


def build_demo(out: str | Path, *, n: int = 4000, seed: int = 0, progress: Progress | None = None) -> Path:
    """Render n scenes, embed them, make the catalog `out`; return its path. The same n and seed give the same scenes.

    The pictures are in out/scenes/images. A finished demo is not changed; a stopped one is completed. Raises UsageError
    if `out` holds another catalog, BackendUnavailableError without torch and open_clip.
    """
    folder = Path(out)
    if n < 1:
        raise UsageError(f"n: expected one scene or more, got {n}")
    report = progress or (lambda stage, done, total: None)
    embedder = open_embedder("demo")
    wanted = {"n": n, "seed": seed, "embedder": embedder.identity}
    note = folder / SCENES / "demo.json"
    if (folder / "manifest.json").exists():
        if not note.exists() or json.loads(note.read_text(encoding="utf-8")) != wanted:
            raise UsageError(
                f"{folder}: expected a demo of {n} scenes with seed {seed} and this version's model, got another "
                "catalog; delete the folder or choose another with --out"
            )
        if Catalog.open(folder).next_id == n:
            return folder
    with disk_errors(folder):
        scenes = draw_scenes(n, seed)
        pictures = folder / SCENES / "images"
        names = _draw_pictures(scenes, pictures, report)
        staging = folder / "embedding"
        (found,) = scan([pictures])
        staged = embed_pictures(
            PictureFolder(found.path, found.pieces),
            [(piece, 0) for piece in found.pieces],
            staging,
            embedder,
            batch_size=_BATCH,
            progress=report,
        )
        _write(staged, folder / SCENES, dict(zip(names, scenes, strict=True)))
        replace_file(note, json.dumps(wanted).encode())
    ingest([folder / SCENES], folder, embedder=embedder, progress=report)
    shutil.rmtree(staging, ignore_errors=True)
    return folder


def truth(catalog: Catalog, ids: list[int]) -> list[Scene]:
    """Return the scenes in the pictures of items. Raises UsageError if the catalog is not the demo's."""
    if TRUTH not in catalog.columns:
        raise UsageError(f"{catalog.path}: expected the demo's catalog, got another; make it with `gpubranches demo`")
    return [Scene.from_json(json.loads(item[TRUTH])) for item in catalog.items(ids)]


def _draw_pictures(scenes: list[Scene], folder: Path, progress: Progress) -> list[str]:
    """Write missing scenes as JPEG; return the file names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{row:06d}.jpg" for row in range(len(scenes))]
    for stale in {path.name for path in folder.iterdir()} - set(names):
        (folder / stale).unlink()
    for done, (name, scene) in enumerate(zip(names, scenes, strict=True)):
        render(scene).save(folder / name, "JPEG", quality=_QUALITY, subsampling=0)
        if done % _REPORT_EVERY == 0:
            progress("rendering", done, len(scenes))
    progress("rendering", len(scenes), len(scenes))
    return names


def _write(staged: StagedPictures, folder: Path, scenes: dict[str, Scene]) -> None:
    """Write the embedded pictures into `folder`, each with its caption and true content."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("img_emb", "metadata"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for number, start in enumerate(range(0, staged.n, PARTITION)):
        stop = min(start + PARTITION, staged.n)
        table = pa.Table.from_pylist(
            [_described(piece.name, scenes[piece.name]) for piece, _ in staged.pieces[start:stop]]
        )
        with output(folder / "metadata" / f"metadata_{number}.parquet") as file:
            pq.write_table(table, file)
        with output(folder / "img_emb" / f"img_emb_{number}.npy") as file:
            write_npy(file, staged.take(np.arange(start, stop)))


def _described(name: str, scene: Scene) -> dict[str, Any]:
    return {"image_path": f"images/{name}", **attributes(scene), TRUTH: json.dumps(scene.to_json())}
