"""A small world with pictures: the clusters of `clusters.py`, each item drawn in the colour of its name."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clusters import NAMES, write_world
from PIL import Image, ImageDraw

COLOURS = ["peru", "black", "crimson", "darkorange", "steelblue", "seagreen", "gold", "sienna", "lightgrey"]
SPITEFUL = """<script>alert("it's & over")</script>"""


def write_pictures(folder: Path, n: int = 700) -> np.ndarray:
    """Write a clip-retrieval folder `folder/images` with pictures and a vocabulary `folder/text`; return the labels.

    Item 3 has a caption that is a script, item 5 names a picture that is not there, item 6 one that is not a picture.
    """
    labels = write_world(folder, n)
    (folder / "images/pictures").mkdir()
    paths = [f"pictures/{row:05}.jpg" for row in range(n)]
    drawn = [_drawn(colour) for colour in COLOURS]
    for path, label in zip(paths, labels, strict=True):
        (folder / "images" / path).write_bytes(drawn[label])
    (folder / "images" / paths[5]).unlink()
    (folder / "images" / paths[6]).write_bytes(b"this is no picture")
    captions = ["background" if label < 0 else NAMES[label] for label in labels]
    captions[3] = SPITEFUL
    table = pa.table({"caption": captions, "image_path": paths, "label": labels})
    pq.write_table(table, folder / "images/metadata/metadata_0.parquet")
    return labels


def _drawn(colour: str) -> bytes:
    """Return a JPEG of a disc."""
    picture, file = Image.new("RGB", (480, 320), "whitesmoke"), io.BytesIO()
    ImageDraw.Draw(picture).ellipse([160, 80, 320, 240], fill=colour)
    picture.save(file, "JPEG", quality=60)
    return file.getvalue()


def write_served(folder: Path) -> None:
    """Write such a world with its labels, `folder/labels.npy`, and a catalog of it with the vocabulary's embedder."""
    from gpubranches.ingestion import ingest

    np.save(folder / "labels.npy", write_pictures(folder))
    ingest(
        [folder / "images"], folder / "catalog", embedder=f"vocabulary:{folder}/text/emb.npy,{folder}/text/names.json"
    )
