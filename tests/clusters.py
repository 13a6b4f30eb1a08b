"""A small labelled world: unit embeddings in clusters, and text vectors that name them, some way off."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ["kangaroo", "grand piano", "red car", "sunset", "bicycle", "teapot", "lighthouse", "violin"]
D = 64


def world(n: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings (n, D) float32, labels (n,) in 0..7 with a background of -1, and text vectors (8, D)."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((len(NAMES), D))
    labels = rng.integers(0, len(NAMES) * 3, n)
    labels[labels >= len(NAMES)] = -1
    images = rng.standard_normal((n, D)) * 1.0
    images[labels >= 0] = centres[labels[labels >= 0]] + 0.55 * images[labels >= 0]
    images += 2.0
    texts = centres + 0.4 * rng.standard_normal(centres.shape) - 2.0
    return _unit(images), labels, _unit(texts)


def write_world(folder: Path, n: int = 1500, seed: int = 0) -> np.ndarray:
    """Write a clip-retrieval folder `folder/images` and a vocabulary `folder/text`; return the labels."""
    images, labels, texts = world(n, seed)
    for name in ("images/img_emb", "images/metadata", "text"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "images/img_emb/img_emb_0.npy", images.astype(np.float16))
    captions = ["background" if label < 0 else NAMES[label] for label in labels]
    table = pa.table({"caption": captions, "label": labels})
    pq.write_table(table, folder / "images/metadata/metadata_0.parquet")
    np.save(folder / "text/emb.npy", texts.astype(np.float32))
    (folder / "text/names.json").write_text(json.dumps(NAMES))
    return labels


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
