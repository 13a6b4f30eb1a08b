"""Files of every kind of input, whose pictures have the colour and the width of their row."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = ["red", "lime", "blue", "yellow", "cyan", "magenta"]


def encoded(row, format="PNG"):
    """Return a picture whose colour is that of its row."""
    file = io.BytesIO()
    Image.new("RGB", (12 + row, 9), COLOURS[row % len(COLOURS)]).save(file, format)
    return file.getvalue()


def write_tar(path, files, kind=tarfile.GNU_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def samples(rows, ending="png", folder=""):
    """Yield the files of samples as img2dataset writes them."""
    for row in rows:
        described = {"caption": f"picture {row}", "url": f"https://example.org/{row}.png", "id": row, "exif": {"a": 1}}
        yield f"{folder}{row:09}.json", json.dumps(described).encode()
        yield f"{folder}{row:09}.{ending}", encoded(row)
        yield f"{folder}{row:09}.txt", f"picture {row}".encode()


FEATURES = {"info": {"features": {"label": {"names": ["warm", "cold"], "_type": "ClassLabel"}}}}


def hub_table(rows, struct=True):
    """Return a table as Hugging Face writes pictures."""
    values = [{"bytes": encoded(row), "path": f"p{row}.png"} if struct else encoded(row) for row in rows]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if struct else pa.binary()
    columns = {
        "image": pa.array(values, kind),
        "label": pa.array([row % 2 for row in rows]),
        "caption": pa.array([f"picture {row}" for row in rows]),
        "boxes": pa.array([[[0.5, 1.5]] for row in rows]),
        "mask": pa.array([b"x" for row in rows]),
    }
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(FEATURES)})


def write_stream(path, table, batch=4, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=batch)


def write_saved(folder, table):
    """Write a data set as `datasets.Dataset.save_to_disk` does, with a cache beside it."""
    half = len(table) // 2
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    write_stream(folder / names[0], table.slice(0, half))
    write_stream(folder / names[1], table.slice(half))
    write_stream(folder / "cache-1234.arrow", table)
    (folder / "dataset_info.json").write_text(json.dumps(FEATURES["info"]))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


def pictures(folder, rows):
    folder.mkdir(parents=True)
    for row in rows:
        (folder / f"{row:03}.png").write_bytes(encoded(row))


def two_tars(folder, rows):
    half = len(rows) // 2
    write_tar(folder / "00000.tar", samples(rows[:half]))
    write_tar(folder / "00001.tar", samples(rows[half:]), tarfile.PAX_FORMAT)
    pq.write_table(pa.table({"url": ["a"]}), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")


def plain_tar(folder, rows):
    write_tar(folder / "photos.tar", [(f"day {row}/IMG {row}.PNG", encoded(row)) for row in rows])


def snapshot(folder, rows):
    (folder / "data").mkdir(parents=True)
    half = len(rows) // 2
    for number, part in enumerate((rows[:half], rows[half:])):
        table = hub_table(part)
        pq.write_table(table, folder / f"data/train-0000{number}-of-00002.parquet", row_group_size=3)
    (folder / "README.md").write_text("# A data set")
    (folder / "card.png").write_bytes(b"x")


FLOAT32 = pa.float32()


def vectors(rows, dims=16):
    return np.array([np.random.default_rng(row).standard_normal(dims) for row in rows])


def write_embeddings(path, rows, dtype=FLOAT32, fixed=True, name="embedding", **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.list_(dtype, 16) if fixed else pa.list_(dtype)
    values = vectors(rows).astype(dtype.to_pandas_dtype())
    columns = {name: pa.array(list(values), kind), "caption": [f"row {row}" for row in rows], **more}
    pq.write_table(pa.table(columns), path, row_group_size=30)
    return path


GREYS = (10, 60, 110, 160, 210)
"""The colour of each second of a video."""


def write_video(path, seconds=5, rate=10, size=(64, 48), codec="mpeg4", shift=0, greys=GREYS, keyframes=25):
    """Write a video whose colour is that of the second. keyframes: the number of frames from one to the next."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt, stream.gop_size = "yuv420p", keyframes
        for i in range(int(seconds * rate)):
            grey = greys[(i // rate + shift) % len(greys)]
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), grey, np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


KINDS = {
    "folder": pictures,
    "tars": two_tars,
    "plain tar": plain_tar,
    "snapshot": snapshot,
    "saved": lambda folder, rows: write_saved(folder, hub_table(rows)),
    "bytes": lambda folder, rows: (folder.mkdir(), pq.write_table(hub_table(rows, False), folder / "x.parquet")),
}
"""Functions that write pictures of some rows into a folder, by the kind of input."""
