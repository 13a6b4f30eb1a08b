"""Readers of files of many pictures or embeddings: tars, Parquet, Arrow, videos; each picture is shown."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from benchmarks.fuzz import mutations
from benchmarks.fuzz.files import ingested
from benchmarks.fuzz.reader import reader
from benchmarks.fuzz.tables import mutated_table, parquet
from benchmarks.fuzz.world import World, table
from gpubranches import Catalog
from gpubranches.catalog.pictures.decoding import upright_size
from gpubranches.catalog.pictures.image_files import picture_of
from gpubranches.errors import DataError
from gpubranches.service.thumbnails import thumbnail

_ROWS = 12


class Colours:
    """An embedder of the colours of a picture."""

    identity, D, spec = "colours", 16, "colours"
    reads_images, reads_texts = True, False
    text_mean = np.zeros(16, np.float32)

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        """Return 16 numbers of a picture."""
        return np.asarray(image.resize((4, 4)).convert("L"), np.float32).reshape(-1) + 1

    def encode(self, prepared: list[Any]) -> NDArray[np.float32]:
        """Return unit rows, (m, 16)."""
        rows = np.array(prepared, np.float32).reshape(-1, 16)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def show_all(catalog: Catalog) -> None:
    """Read every picture of a catalog."""
    for item in catalog.items(catalog.sample_ids(catalog.n, np.random.default_rng(0))):
        picture = picture_of(catalog.source, item)
        for read in (upright_size, thumbnail):
            try:
                if picture is not None:
                    read(picture)
            except DataError:
                continue


def pictures() -> list[bytes]:
    """Return small pictures, as PNG."""
    made = []
    for row in range(_ROWS):
        file = io.BytesIO()
        Image.new("RGB", (8 + row, 6), (20 * row, 90, 10)).save(file, "PNG")
        made.append(file.getvalue())
    return made


def _tars(world: World) -> list[bytes]:
    made = []
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
            for row, picture in enumerate(pictures()):
                described = {"caption": f"row {row}", "id": row, "exif": {"a": [row]}, "x": [None, row, "a"][row % 3]}
                for ending, content in (("png", picture), ("json", json.dumps(described).encode()), ("txt", b"text")):
                    entry = tarfile.TarInfo(f"folder/{'long' * (row * 4)}{row:05}.{ending}"[-90:])
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        made.append(file.getvalue())
    return made


def films(world: World) -> list[bytes]:
    """Return a video of three scenes in each of some containers."""
    import av

    made = []
    for kind, codec in (("avi", "mpeg4"), ("mp4", "mpeg4"), ("matroska", "mpeg4"), ("mpeg", "mpeg1video")):
        file = io.BytesIO()
        with av.open(file, "w", format=kind) as container:
            stream = container.add_stream(codec, rate=24)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for number in range(54):
                grey = np.full((32, 32, 3), (20, 220, 120)[number // 18], np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(stream.encode())
        made.append(file.getvalue())
    return made


@reader("video", films, mutations.mutated_bytes, few=8)
def read_video(world: World, data: bytes) -> None:
    """Ingest a video by times or by scenes, and show its frames."""
    path = world.scratch / "x.mp4"  # the content decides about the container
    path.write_bytes(data)
    frames_at = "scenes" if zlib.crc32(data) % 2 else "times"
    show_all(ingested(world, path, embedder=Colours(), frames_every=1, frames_at=frames_at))


@reader("tar", _tars, mutations.mutated_bytes, few=12)
def read_tar(world: World, data: bytes) -> None:
    """Ingest a tar of pictures, and show them."""
    path = world.scratch / "x.tar"
    path.write_bytes(data)
    show_all(ingested(world, path, embedder=Colours()))


def _tables() -> list[pa.Table]:
    content = pictures()
    values = [{"bytes": data, "path": f"{row}.png"} for row, data in enumerate(content)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return [
        pa.table({"image": pa.array(values, struct), **{name: column for name, column in _metadata()}}),
        pa.table({"jpg": pa.array(content, pa.large_binary()), "image_path": ["/etc/passwd"] * _ROWS}),
    ]


def _metadata() -> list[tuple[str, pa.ChunkedArray]]:
    described = table(_ROWS)
    return [(name, described[name]) for name in described.column_names if name != "image"]


@reader("picture_table", lambda world: [parquet(each) for each in _tables()], mutated_table, few=4)
def read_picture_table(world: World, data: bytes) -> None:
    """Ingest a Parquet file of pictures, and show them."""
    path = world.scratch / "x.parquet"
    path.write_bytes(data)
    show_all(ingested(world, path, embedder=Colours()))


def _streams(world: World) -> list[bytes]:
    made = []
    for each in _tables():
        for open_writer in (pa.ipc.new_stream, pa.ipc.new_file):
            sink = pa.BufferOutputStream()
            with open_writer(sink, each.schema) as writer:
                writer.write_table(each, max_chunksize=5)
            made.append(bytes(sink.getvalue()))
    return made


@reader("arrow", _streams, mutations.mutated_bytes, few=10)
def read_arrow(world: World, data: bytes) -> None:
    """Ingest an Arrow file of pictures, and show them."""
    path = world.scratch / "x.arrow"
    path.write_bytes(data)
    show_all(ingested(world, path, embedder=Colours()))


def _embeddings(world: World) -> list[bytes]:
    rows = np.load(world.folder / "in/img_emb/img_emb_0.npy")[:_ROWS]
    kinds = (pa.list_(pa.float16(), 16), pa.list_(pa.float32()), pa.large_list(pa.float64()))
    numbers = (np.float16, np.float32, np.float64)
    made = []
    for kind, dtype in zip(kinds, numbers, strict=True):
        column = pa.array(list(rows[:, :16].astype(dtype)), kind)
        made.append(parquet(pa.table({"embedding": column, "caption": ["a"] * len(rows)})))
    return made


@reader("embedding_table", _embeddings, mutated_table, few=4)
def read_embedding_table(world: World, data: bytes) -> None:
    """Ingest a Parquet file of embeddings."""
    path = world.scratch / "x.parquet"
    path.write_bytes(data)
    ingested(world, path)
