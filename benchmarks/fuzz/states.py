"""Readers of what a catalog of pictures keeps for later commands: shards, two models, moves, and files of a stop."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.fuzz import mutations
from benchmarks.fuzz.catalogs import mutated_manifest, use, use_all
from benchmarks.fuzz.containers import Colours, films, pictures, show_all
from benchmarks.fuzz.files import ingested
from benchmarks.fuzz.reader import reader
from benchmarks.fuzz.tables import mutated_table
from benchmarks.fuzz.world import World
from gpubranches import Catalog, Session, open_backend
from gpubranches.encoders.joint import JointEmbedder
from gpubranches.errors import DataError
from gpubranches.ingestion import build, ingest, sync
from gpubranches.service.merging import merge


class _Squares(Colours):
    """An embedder of the squares of the colours of a picture."""

    identity = "squares"

    def encode(self, prepared: list[Any]) -> NDArray[np.float32]:
        """Return unit rows, (m, 16)."""
        return super().encode([row**2 for row in prepared])


_MODELS: list[Any] = [Colours(), _Squares()]
_TWO: Any = JointEmbedder(_MODELS)


def _folder(world: World) -> Path:
    """Return a folder of pictures."""
    folder = world.folder / "photos"
    if not folder.exists():
        folder.mkdir()
        for number, content in enumerate(pictures()):
            (folder / f"{number}.png").write_bytes(content)
    return folder


def _photos(world: World) -> Path:
    """Return a catalog of pictures by two models, two of which were moved and one of which was removed."""
    made = world.folder / "of photos"
    if not made.exists():
        folder = _folder(world)
        ingest(folder, made, embedder=_TWO, d=8)
        for number in (1, 2):
            (folder / f"{number}.png").rename(folder / f"moved {number}.png")
        (folder / "3.png").unlink()
        sync(made, [folder], embedder=_TWO)
    return made


@reader("two_models", lambda world: [(_photos(world) / "manifest.json").read_bytes()], mutated_manifest, few=4)
def read_two_models(world: World, data: bytes) -> None:
    """Use a catalog of pictures by two models with another manifest: search, find all, show the pictures."""
    path = world.copied(_photos(world))
    (path / "manifest.json").write_bytes(data)
    use_all(path, data)
    catalog = Catalog.open(path)
    show_all(catalog)
    with open_backend("oracle", catalog) as backend:
        session = Session(catalog, backend, embedder=None)
        ids = catalog.sample_ids(6, np.random.default_rng(0))
        session.mark(ids[:3], +1)
        session.mark(ids[3:], -1)
        session.refine()


def _listing(path: Path) -> Path:
    return sorted(path.glob("inputs-*.parquet"))[-1]


@reader("synced", lambda world: [_listing(_photos(world)).read_bytes()], mutated_table, few=3)
def read_synced(world: World, data: bytes) -> None:
    """Sync a catalog with another listing of its pictures."""
    with world.changed(_listing(_photos(world)).name, data, of=_photos(world)) as path:
        try:
            sync(path, [_folder(world)], embedder=_TWO)
        finally:
            use_all(path, data)


def _shards(world: World) -> list[bytes]:
    part = world.folder / "part 2"
    if not part.exists():
        inputs = [world.folder / "in", world.folder / "more"]
        ingest(inputs, world.folder / "fitted", d=8, fit_only=True)
        for number in (1, 2):
            ingest(inputs, world.folder / f"part {number}", shard=f"{number}/2", codec_from=world.folder / "fitted")
    return [(part / "manifest.json").read_bytes()]


@reader("shard", _shards, mutated_manifest, few=6)
def read_shard(world: World, data: bytes) -> None:
    """Merge two shards, one of them with another manifest."""
    part = Path(shutil.copytree(world.folder / "part 2", world.scratch / "part"))
    (part / "manifest.json").write_bytes(data)
    merge(world.scratch / "merged", [world.folder / "part 1", part])
    use(world.scratch / "merged")


def _stopped(world: World) -> list[bytes]:
    """Stop an ingest before its first rows; return the files of its staging folder."""
    out = world.folder / "stopped"
    if not out.exists():
        with patch.object(build, "_append_rows", side_effect=DataError("stopped")), suppress(DataError):
            ingest(_folder(world), out, embedder=Colours(), d=8)
    return [path.read_bytes() for path in sorted((out / "staging").rglob("000000.*"))]


def _mutated_staged(data: bytes, rng: mutations.Random) -> bytes:
    return (mutations.mutated_npy if data.startswith(b"\x93NUMPY") else mutated_table)(data, rng)


@reader("staging", _stopped, _mutated_staged, few=4)
def read_staging(world: World, data: bytes) -> None:
    """Resume a stopped ingest of pictures with another file in its staging folder."""
    out = Path(shutil.copytree(world.folder / "stopped", world.scratch / "out"))
    ending = "npy" if data.startswith(b"\x93NUMPY") else "parquet"
    next((out / "staging").rglob(f"000000.{ending}")).write_bytes(data)
    ingested(world, _folder(world), embedder=Colours())


def _scenes(world: World) -> list[bytes]:
    made = world.folder / "of scenes"
    if not made.exists():
        (world.folder / "film.avi").write_bytes(films(world)[0])
        ingest(world.folder / "film.avi", made, embedder=Colours(), d=8, frames_at="scenes")
    return [next((made / "scenes").iterdir()).read_bytes()]


@reader("scenes", _scenes, mutations.mutated_npy, few=4)
def read_scenes(world: World, data: bytes) -> None:
    """Ingest the scenes of a video, with other times of them kept."""
    name = next((world.folder / "of scenes/scenes").iterdir()).name
    (world.scratch / "out/scenes").mkdir(parents=True)
    (world.scratch / "out/scenes" / name).write_bytes(data)
    show_all(ingested(world, world.folder / "film.avi", embedder=Colours(), frames_at="scenes"))
