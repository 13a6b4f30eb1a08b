"""A small catalog for all readers: columns of every kind, deleted items, two segments, heads, a served page."""

from __future__ import annotations

import datetime
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpubranches import Catalog, VocabularyEmbedder, open_backend
from gpubranches.app import create_app
from gpubranches.app.limits import TokenBuckets
from gpubranches.catalog.blocks import SUMS
from gpubranches.catalog.manifest import read_manifest, write_manifest
from gpubranches.core.files import BLOCK_BYTES, checksum
from gpubranches.ingestion import append, ingest

NAMES = ("red car", "teapot", "kangaroo", "dog")
ROWS, DIMS = 160, 16


@dataclass
class World:
    """A catalog and its other files in a folder; `scratch` is empty before each input."""

    folder: Path

    @property
    def scratch(self) -> Path:
        """The folder to which an input is written."""
        return self.folder / "scratch"

    @property
    def catalog(self) -> Path:
        """The path of an undamaged catalog."""
        return self.folder / "catalog"

    @cached_property
    def opened(self) -> Catalog:
        """The undamaged catalog, open."""
        return Catalog.open(self.catalog)

    @cached_property
    def embedder(self) -> VocabularyEmbedder:
        """The embedder of its queries."""
        return VocabularyEmbedder.load(self.folder / "text.npy", self.folder / "names.json")

    @cached_property
    def app(self) -> Any:
        """The page and the API over it; sessions may train as often as they like."""
        app = create_app(self.opened, open_backend("oracle", self.opened), embedder=self.embedder)
        app.extensions["gpubranches"].limits.training_rate = TokenBuckets(burst=10**9)
        return app

    def copied(self, of: Path | None = None) -> Path:
        """Return a copy of a catalog, by default of `catalog`, in the scratch folder."""
        return Path(shutil.copytree(of or self.catalog, self.scratch / "catalog"))

    @contextmanager
    def changed(self, name: str, content: bytes, of: Path | None = None) -> Iterator[Path]:
        """Yield a copy of a catalog, by default of `catalog`, with another file and matching checksums."""
        path = self.copied(of)
        (path / name).write_bytes(content)
        manifest = read_manifest(path)
        entry = {"bytes": len(content), "sha256": checksum(path / name)}
        if name in manifest["files"]:
            manifest["files"][name] = entry
        else:
            segment = next(one for one in manifest["segments"] if name.startswith(one["name"]))
            folder = path / segment["name"]
            sums = [crc for file in sorted(segment["files"]) if file != SUMS for crc in _sums(folder / file)]
            (folder / SUMS).write_bytes(np.array(sums, "<u4").tobytes())
            for file in (Path(name).name, SUMS):
                size = (folder / file).stat().st_size
                segment["files"][file] = {"bytes": size, "sha256": checksum(folder / file)}
        write_manifest(path, manifest)
        yield path


def _sums(path: Path) -> list[int]:
    content = path.read_bytes()
    return [zlib.crc32(content[at : at + BLOCK_BYTES]) for at in range(0, len(content), BLOCK_BYTES)]


def table(n: int) -> pa.Table:
    """Return metadata of every kind."""
    day = datetime.datetime(2024, 5, 31, 12, tzinfo=datetime.UTC)
    return pa.table(
        {
            "caption": [None if i % 9 == 8 else f"{NAMES[i % 4]} {i}" for i in range(n)],
            "label": pa.array([i % 4 for i in range(n)], pa.int32()),
            "score": [float("nan") if i % 7 == 6 else i / 3 for i in range(n)],
            "good": [i % 2 == 0 for i in range(n)],
            "taken": [day + datetime.timedelta(hours=i) for i in range(n)],
            "day": [(day + datetime.timedelta(days=i)).date() for i in range(n)],
            "camera": [{"maker": "a", "iso": i} for i in range(n)],
            "tags": [["x"] * (i % 3) for i in range(n)],
            "raw": [bytes((i % 256, 255)) for i in range(n)],
        }
    )


def make(folder: Path) -> World:
    """Make the world in an empty folder."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((len(NAMES), DIMS)).astype(np.float32)
    rows = centres[np.arange(ROWS) % 4] + 0.4 * rng.standard_normal((ROWS, DIMS)).astype(np.float32)
    rows[7] = np.nan
    for name, part in (("in", slice(0, 120)), ("more", slice(120, ROWS))):
        (folder / name / "img_emb").mkdir(parents=True)
        (folder / name / "metadata").mkdir()
        np.save(folder / name / "img_emb/img_emb_0.npy", rows[part].astype(np.float16))
        pq.write_table(table(ROWS)[part], folder / name / "metadata/metadata_0.parquet")
    np.save(folder / "text.npy", centres)
    (folder / "names.json").write_text(json.dumps(NAMES))
    spec = f"vocabulary:{folder}/text.npy,{folder}/names.json"
    ingest([folder / "in"], folder / "catalog", embedder=spec, head="pca", d=8)
    append(folder / "catalog", [folder / "more"])
    Catalog.open(folder / "catalog").delete([0, 5, 130])
    (folder / "scratch").mkdir()
    return World(folder)
