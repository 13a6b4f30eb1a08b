"""Inputs and starting folders of the scenarios, each made by the program's own commands."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from gpubranches import Catalog
from gpubranches.catalog import catalog as catalog_module
from gpubranches.cli import main
from gpubranches.encoders.joint import JointEmbedder, split
from gpubranches.errors import DataError
from gpubranches.ingestion import build, compatibility, staging
from gpubranches.service.labels import Labels
from gpubranches.service.session_store import SessionStore

SESSION = "the-first-session-of-1"
TRAINING = ("--dim", "4", "--hidden", "8", "--epochs", "2", "--batch", "16", "--device", "cpu", "--seed", "1")
_D, _ROWS = 16, 40


class Fields:
    """A quick embedder: the mean colours of 2 x 2 fields and a power of them, D = 24. spec: "fields" or "cubes"."""

    D = 24
    reads_images, reads_texts = True, False
    text_mean = np.zeros(24, np.float32)

    def __init__(self, spec: str):
        self.spec = self.identity = spec
        self._power = {"fields": 2, "cubes": 3}[spec]

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the colours, (12,) float32."""
        return np.asarray(image.resize((2, 2)), np.float32).reshape(-1) / np.float32(255) + np.float32(0.1)

    def encode(self, prepared: list[Any]) -> NDArray[np.float32]:
        """Return unit rows, (m, 24) float32."""
        rows = np.array(prepared, np.float32).reshape(-1, 12)
        rows = np.concatenate([rows, rows**self._power], axis=1)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def _opened(spec: str | Sequence[str], identity: str = "") -> Any:
    """Stand for `open_embedder`."""
    specs = [part for each in ([spec] if isinstance(spec, str) else spec) for part in split(each)]
    opened: list[Any] = [Fields(each) for each in specs]
    return JointEmbedder(opened) if len(opened) > 1 else opened[0]


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
    """Inputs that no scenario changes, in `folder/in`, and starting folders of scenarios, in `folder/starts`."""

    def __init__(self, folder: Path):
        """Write the inputs."""
        self.inputs, self._starts = folder / "in", folder / "starts"
        for path in (self.inputs, self._starts):
            path.mkdir()
        # Small, so that an input makes two segments and pictures two partitions.
        catalog_module.SEGMENT_ROWS, staging.PARTITION = 24, 4  # type: ignore[attr-defined]
        compatibility.open_embedder = _opened  # type: ignore
        self._write_inputs()

    @property
    def head(self) -> Path:
        """A trained head."""
        path = self.inputs / "head.safetensors"
        if not path.exists():
            self._train_head(path)
        return path

    def start(self, name: str) -> Path:
        """Return a starting folder, made at the first call; most have a catalog `c`."""
        path = self._starts / name
        if not path.exists():
            maker: Callable[[Path], None] = getattr(self, f"_make_{name.replace(' ', '_')}")
            path.mkdir()
            maker(path)
        return path

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
        self._write_containers(sorted((self.inputs / "more-pictures").iterdir()), rows)
        (self.inputs / "pictures/2.png").write_bytes(b"this is no picture")

    def _write_containers(self, pictures: list[Path], rows: NDArray[np.float32]) -> None:
        with tarfile.open(self.inputs / "pictures.tar", "w") as tar:
            for each in pictures:
                tar.add(each, each.name)
        content = [{"bytes": each.read_bytes(), "path": each.name} for each in pictures]
        pq.write_table(pa.table({"image": content, "caption": ["a"] * len(content)}), self.inputs / "pictures.parquet")
        pq.write_table(pa.table({"embedding": list(rows)}), self.inputs / "embeddings.parquet")

    def _write_clip(self, name: str, *parts: NDArray[np.float32]) -> None:
        for number, part in enumerate(parts):
            table = pa.table({"caption": [f"{name} {number} {row}" for row in range(len(part))]})
            for kind in ("img_emb", "metadata"):
                (self.inputs / name / kind).mkdir(parents=True, exist_ok=True)
            np.save(self.inputs / f"{name}/img_emb/img_emb_{number}.npy", part)
            pq.write_table(table, self.inputs / f"{name}/metadata/metadata_{number}.parquet")

    def _make_nothing(self, path: Path) -> None:
        pass

    def _make_catalog(self, path: Path) -> None:
        _must("ingest", self.inputs / "clip", "--out", path / "c", "--dims", "4")
        _must("delete", path / "c", "1,5")

    def _make_fitted(self, path: Path) -> None:
        inputs = self.inputs / "clip", self.inputs / "other"
        _must("ingest", *inputs, "--out", path / "fitted", "--fit-only", "--dims", "4")

    def _make_shards(self, path: Path) -> None:
        """Make two shards; one has deleted rows and marks."""
        self._make_fitted(path)
        inputs = self.inputs / "clip", self.inputs / "other"
        for number in (1, 2):
            out = path / f"part-{number}"
            _must("ingest", *inputs, "--out", out, "--shard", f"{number}/2", "--codec-from", path / "fitted")
        _must("delete", path / "part-1", "1,5")
        with closing(Labels.open(path / "part-2/labels.sqlite", SESSION)) as labels:
            labels.mark([30, 31], +1)

    def _make_part(self, path: Path) -> None:
        """Ingest a folder before the second partition came to it."""
        later = [next((self.inputs / "grown").rglob(name)) for name in ("img_emb_1.npy", "metadata_1.parquet")]
        held = [(each, each.read_bytes()) for each in later]
        for each in later:
            each.unlink()
        _must("ingest", self.inputs / "grown", "--out", path / "c", "--dims", "4")
        for each, content in held:
            each.write_bytes(content)

    def _make_pictures(self, path: Path) -> None:
        _must("ingest", self.inputs / "pictures", "--out", path / "c", "--embedder", "fields", "--dims", "4")

    def _make_filmed(self, path: Path) -> None:
        write_video(self.inputs / "video.avi")

    def _make_synced(self, path: Path) -> None:
        """Ingest a folder of pictures, of which some are then moved, changed, removed or added."""
        folder = self.inputs / "synced"
        write_pictures(folder, 8)
        _must("ingest", folder, "--out", path / "c", "--embedder", "fields", "--dims", "4")
        write_pictures(self.inputs / "newer", 3)
        (folder / "0.png").rename(folder / "moved.png")
        (folder / "1.png").unlink()
        for number, name in enumerate(("0.png", "2.png", "new.png")):
            (self.inputs / f"newer/{number}.png").rename(folder / name)

    def _make_stopped(self, path: Path) -> None:
        """Stop an ingest before its first rows."""
        with patch.object(build, "_append_rows", side_effect=DataError("stopped")):
            run("ingest", str(self.inputs / "other"), "--out", str(path / "c"), "--dims", "4")

    def _make_outputs(self, path: Path) -> None:
        """Files that exports take the place of."""
        self._copy(path)
        for name in ("out.csv", "out.parquet", "out.json"):
            (path / name).write_bytes(b"what was there before")

    def _make_head(self, path: Path) -> None:
        self._copy(path)
        _must("encode", path / "c", "--head", self.head)

    def _make_indexed(self, path: Path) -> None:
        self._copy(path)
        _must("index", path / "c", "--threads", "1")

    def _make_old_index(self, path: Path) -> None:
        self._make_indexed(path)
        _must("encode", path / "c", "--head", "pca", "--dims", "4", "--quantizer", "uniform")

    def _make_damaged(self, path: Path) -> None:
        self._copy(path)
        segment = Catalog.open(path / "c").segments[0].folder
        for name in ("codes.u8", "embeddings.f16"):
            content = bytearray((segment / name).read_bytes())
            content[7] ^= 1
            (segment / name).write_bytes(content)

    def _make_marked(self, path: Path) -> None:
        self._copy(path)
        log = path / "c/labels.sqlite"
        with closing(SessionStore.open(log)) as store:
            store.update(SESSION, name="first", seed=3)
        with closing(Labels.open(log, SESSION)) as labels:
            labels.mark([2, 4], +1)

    def _copy(self, path: Path) -> None:
        shutil.copytree(self.start("catalog"), path, dirs_exist_ok=True)

    def train_head(self, path: Path) -> None:
        """Train a head in this process."""
        _must("train-head", self.inputs / "rows.npy", "--out", path, *TRAINING)

    def _train_head(self, path: Path) -> None:
        """Train in a process of its own: torch, loaded, makes each fork slower."""
        child = os.fork()
        if not child:
            self.train_head(path)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("no head could be trained")


def _must(*arguments: object) -> None:
    status = run(*(os.fspath(each) for each in arguments))  # type: ignore[call-overload]
    if status:
        raise RuntimeError(f"exit {status}: {arguments}")


def vectors(n: int, seed: int) -> NDArray[np.float32]:
    """Return rows around four centres, (n, 16) float32."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((4, _D))
    return (centres[np.arange(n) % 4] + 0.4 * rng.standard_normal((n, _D))).astype(np.float32)


def write_video(path: Path) -> None:
    """Write a video of three scenes of two seconds."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(30):
            grey = np.full((32, 32, 3), (20, 220, 120)[number // 10], np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(stream.encode())


def write_pictures(folder: Path, n: int) -> None:
    """Write small pictures, each of its own colours."""
    folder.mkdir()
    rng = np.random.default_rng(len(folder.name))
    for number in range(n):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)).save(folder / f"{number}.png")
