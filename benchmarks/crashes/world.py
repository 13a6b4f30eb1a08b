"""The small world of the scenarios: inputs, and folders to begin from, each made by the program's own commands."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from gpubranches import Catalog
from gpubranches.cli import main
from gpubranches.errors import DataError
from gpubranches.ingest import building, staging
from gpubranches.session.labels import Labels
from gpubranches.session.sessions import Book

SESSION = "the-first-session-of-1"
TRAINING = ("--dim", "4", "--hidden", "8", "--epochs", "2", "--batch", "16", "--device", "cpu", "--seed", "1")
_D, _ROWS = 16, 40


class Fields:
    """A quick embedder: the mean colours of 2 x 2 fields and their squares, D = 24."""

    D, spec, identity = 24, "fields", "fields"
    text_mean = np.zeros(24, np.float32)

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the colours, (12,) float32."""
        return np.asarray(image.resize((2, 2)), np.float32).reshape(-1) / 255 + 0.1

    def encode(self, prepared: list[Any]) -> NDArray[np.float32]:
        """Return unit rows, (m, 24) float32."""
        rows = np.array(prepared, np.float32).reshape(-1, 12)
        rows = np.concatenate([rows, rows**2], axis=1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def run(*arguments: str) -> int:
    """Run the command line in this process; return its exit status."""
    sys.argv = ["gpubranches", *arguments]
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


class World:
    """Inputs that no scenario changes, in `folder/in`, and what the scenarios begin with, in `folder/starts`."""

    def __init__(self, folder: Path):
        """Write the inputs and make the starts."""
        self.inputs, self.starts = folder / "in", folder / "starts"
        for path in (self.inputs, self.starts):
            path.mkdir()
        # Small, so that an input makes two segments and pictures two partitions.
        building.SEGMENT_ROWS, staging.PARTITION = 24, 4
        building.open_embedder = lambda spec: Fields()  # type: ignore[assignment,return-value]
        self._write_inputs()
        self._make_starts()

    def _write_inputs(self) -> None:
        rows = vectors(_ROWS, 0)
        np.save(self.inputs / "rows.npy", rows)
        np.save(self.inputs / "codes.npy", np.random.default_rng(1).integers(0, 256, (_ROWS, 4)).astype(np.uint8))
        np.save(self.inputs / "more.npy", vectors(10, 2).astype(np.float16))
        for name, array in (("rows.fbin", rows), ("codes.u8bin", np.load(self.inputs / "codes.npy"))):
            header = np.array(array.shape, np.uint32).tobytes()
            (self.inputs / name).write_bytes(header + array.tobytes())
        rows[3] = np.nan
        self._write_clip("clip", rows[: _ROWS // 2], rows[_ROWS // 2 :])
        self._write_clip("grown", rows[: _ROWS // 2], rows[_ROWS // 2 :])
        self._write_clip("other", vectors(12, 3))
        write_pictures(self.inputs / "pictures", 6)
        write_pictures(self.inputs / "more-pictures", 6)
        (self.inputs / "pictures/2.png").write_bytes(b"this is no picture")

    def _write_clip(self, name: str, *parts: NDArray[np.float32]) -> None:
        for number, part in enumerate(parts):
            table = pa.table({"caption": [f"{name} {number} {row}" for row in range(len(part))]})
            for kind in ("img_emb", "metadata"):
                (self.inputs / name / kind).mkdir(parents=True, exist_ok=True)
            np.save(self.inputs / f"{name}/img_emb/img_emb_{number}.npy", part)
            pq.write_table(table, self.inputs / f"{name}/metadata/metadata_{number}.parquet")

    def _make_starts(self) -> None:
        """Each is a folder that becomes the work's: with a catalog `c`, or with nothing."""
        given = self.inputs
        (self.starts / "nothing").mkdir()
        catalog = self._begun("catalog")
        self._must("ingest", given / "clip", "--out", catalog, "--dims", "4")
        self._must("delete", catalog, "1,5")
        self._write_grown("catalog", "part", "grown", "img_emb_1.npy", "metadata_1.parquet")
        self._write_pictures_start()
        for name in ("indexed", "with outputs", "head", "damaged", "marked", "old index"):
            shutil.copytree(self.starts / "catalog", self.starts / name)
        self._must("index", self.starts / "indexed/c", "--threads", "1")
        self._must("index", self.starts / "old index/c", "--threads", "1")
        self._must("encode", self.starts / "old index/c", "--head", "pca", "--dims", "4", "--quantizer", "uniform")
        for name in ("out.csv", "out.parquet", "out.json"):
            (self.starts / "with outputs" / name).write_bytes(b"what was there before")
        self._train_head()
        self._must("encode", self.starts / "head/c", "--head", given / "head.safetensors")
        segment = Catalog.open(self.starts / "damaged/c").segments[0].folder
        for name in ("codes.u8", "embeddings.f16"):
            content = bytearray((segment / name).read_bytes())
            content[7] ^= 1
            (segment / name).write_bytes(content)
        self._mark(self.starts / "marked/c/labels.sqlite")
        self._write_stopped()

    def _write_grown(self, start: str, name: str, whole: str, *later: str) -> None:
        """Have a start whose catalog took in a folder before some files came to it."""
        catalog = self._begun(name)
        paths = [next((self.inputs / whole).rglob(file)) for file in later]
        held = [(path, path.read_bytes()) for path in paths]
        for path in paths:
            path.unlink()
        self._must("ingest", self.inputs / whole, "--out", catalog, "--dims", "4")
        for path, content in held:
            path.write_bytes(content)

    def _write_pictures_start(self) -> None:
        catalog = self._begun("pictures")
        self._must("ingest", self.inputs / "pictures", "--out", catalog, "--embedder", "fields", "--dims", "4")
        Image.new("RGB", (8, 8), "teal").save(self.inputs / "mended.png")

    def _write_stopped(self) -> None:
        """Have a catalog whose ingest was stopped before its first rows."""
        catalog = self._begun("stopped")
        with patch.object(building, "_write_rows", side_effect=DataError("stopped")):
            run("ingest", str(self.inputs / "other"), "--out", str(catalog), "--dims", "4")

    def _mark(self, log: Path) -> None:
        Book.open(log).note(SESSION, name="first", seed=3)
        labels = Labels.open(log, SESSION)
        labels.mark([2, 4], +1)
        labels.close()

    def _begun(self, name: str) -> Path:
        (self.starts / name).mkdir()
        return self.starts / name / "c"

    def _train_head(self) -> None:
        """Train in a process of its own: torch, loaded, makes each fork slower."""
        child = os.fork()
        if not child:
            self._must("train-head", self.inputs / "rows.npy", "--out", self.inputs / "head.safetensors", *TRAINING)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("no head could be trained")

    def _must(self, *arguments: object) -> None:
        status = run(*map(os.fspath, arguments))  # type: ignore[arg-type]
        if status:
            raise RuntimeError(f"exit {status}: {arguments}")


def vectors(n: int, seed: int) -> NDArray[np.float32]:
    """Return rows around four centres, (n, 16) float32."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((4, _D))
    return (centres[np.arange(n) % 4] + 0.4 * rng.standard_normal((n, _D))).astype(np.float32)


def write_pictures(folder: Path, n: int) -> None:
    """Write small pictures, each of its own colours."""
    folder.mkdir()
    rng = np.random.default_rng(len(folder.name))
    for number in range(n):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(folder / f"{number}.png")
