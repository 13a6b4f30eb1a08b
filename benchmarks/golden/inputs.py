"""Synthetic inputs: the same bytes from the same seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw

NAMES = ("kangaroo", "grand piano", "red car", "sunset", "bicycle", "teapot")
GROUPS, KINDS, EACH = 4, 5, 30
COLOURS = ("red", "green", "blue", "gold")

Floats = NDArray[np.float64]


def unit(x: Floats) -> NDArray[np.float32]:
    """Return rows of length 1."""
    rows: NDArray[np.float32] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return rows


def write_classes(folder: Path, n: int = 1200, dims: int = 48) -> NDArray[np.int64]:
    """Write embeddings of six named classes in a background, as `first` and `later`, and words for them as `text`.

    Returns the class of each item, (n,) int64, -1 in the background. The last fifth of the items is `later`. Metadata
    have a text, numbers, missing values, a time and a list.
    """
    rng = np.random.default_rng(11)
    centres = rng.standard_normal((len(NAMES), dims))
    labels = rng.integers(0, 3 * len(NAMES), n)
    labels[labels >= len(NAMES)] = -1
    images = rng.standard_normal((n, dims))
    images[labels >= 0] = centres[labels[labels >= 0]] + 0.6 * images[labels >= 0]
    texts = centres + 0.4 * rng.standard_normal(centres.shape) - 2.0
    price = rng.integers(0, 10_000, n) / 100
    start = n - n // 5
    for name, part in (("first", slice(0, start)), ("later", slice(start, n))):
        kept = range(n)[part]
        _write_partition(folder / name, unit(images + 2.0)[part], _columns(kept, labels, price))
    _write_words(folder / "text", unit(texts), NAMES)
    return labels


def _columns(kept: range, labels: NDArray[np.int64], price: Floats) -> dict[str, Any]:
    names = ["background" if labels[i] < 0 else NAMES[labels[i]] for i in kept]
    return {
        "caption": [None if i % 17 == 0 else f'{name}, "{i}" é' for i, name in zip(kept, names, strict=True)],
        "label": labels[kept.start : kept.stop],
        "kind": names,
        "price": pa.array([float("nan") if i % 19 == 0 else price[i] for i in kept], pa.float32()),
        "seen": pa.array([1_700_000_000 + 3600 * i for i in kept], pa.timestamp("s")),
        "tags": [[str(i % 3), "x"] if i % 5 else [] for i in kept],
        "url": [f"https://example.org/{i}.jpg" for i in kept],
    }


def write_groups(folder: Path, dims: int = 40) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write embeddings of kinds within groups and of a background, as `images`, and words for them as `text`.

    Returns the group and the kind of each item, (n,) int64 each, -1 for the background.
    """
    rng = np.random.default_rng(12)
    above = rng.standard_normal((GROUPS, dims))
    centres = np.repeat(above, KINDS, axis=0) + 0.7 * rng.standard_normal((GROUPS * KINDS, dims))
    kinds = rng.permutation(np.concatenate([np.repeat(np.arange(len(centres)), EACH), np.full(600, -1)]))
    groups = np.where(kinds < 0, -1, kinds // KINDS)
    images = rng.standard_normal((len(kinds), dims))
    images[kinds >= 0] = centres[kinds[kinds >= 0]] + 0.4 * images[kinds >= 0]
    names = [f"group {g}" for g in range(GROUPS)] + [f"kind {k}" for k in range(len(centres))]
    words = np.concatenate([above, centres])
    _write_partition(folder / "images", unit(images + 2.0), {"grp": groups, "kind": kinds})
    _write_words(folder / "text", unit(words + 0.3 * rng.standard_normal(words.shape) - 2.0), names)
    return groups, kinds


def _write_partition(folder: Path, embeddings: NDArray[np.float32], columns: dict[str, Any]) -> None:
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "img_emb/img_emb_0.npy", embeddings.astype(np.float16))
    pq.write_table(pa.table(columns), folder / "metadata/metadata_0.parquet")


def _write_words(folder: Path, embeddings: NDArray[np.float32], names: Any) -> None:
    folder.mkdir()
    np.save(folder / "emb.npy", embeddings)
    (folder / "names.json").write_text(json.dumps(list(names)))


def write_codes(folder: Path, n: int = 2000, d: int = 16) -> NDArray[np.int64]:
    """Write codes of five groups in a background, with many equal rows, as `codes.npy` and `more.u8bin`.

    Returns the group of each item, (n,) int64, -1 in the background. The last tenth of the items is `more.u8bin`.
    """
    rng = np.random.default_rng(13)
    labels = rng.integers(-5, 5, n)
    labels[labels < 0] = -1
    codes = rng.integers(0, 256, (n, d))
    centres = rng.integers(60, 190, (5, d))
    codes[labels >= 0] = centres[labels[labels >= 0]] + rng.integers(-25, 26, (int((labels >= 0).sum()), d))
    codes[::50] = codes[0]
    rows = codes.astype(np.uint8)
    first = n - n // 10
    np.save(folder / "codes.npy", rows[:first])
    with open(folder / "more.u8bin", "wb") as file:
        file.write(np.array([n - first, d], np.uint32).tobytes())
        file.write(rows[first:].tobytes())
    return labels


def write_arrays(folder: Path, n: int = 300, dims: int = 24) -> None:
    """Write embeddings that are not of unit length as `first.npy`, and more of them as `more.fbin`."""
    rows = np.random.default_rng(14).standard_normal((n, dims)).astype(np.float32)
    rows[7] = rows[3]
    np.save(folder / "first.npy", rows[: n // 2])
    with open(folder / "more.fbin", "wb") as file:
        file.write(np.array([n - n // 2, dims], np.uint32).tobytes())
        file.write(rows[n // 2 :].tobytes())


def write_pictures(folder: Path) -> None:
    """Write a folder of twenty small pictures in four formats, a broken one and a file that is not a picture."""
    (folder / "below").mkdir(parents=True)
    for number in range(20):
        picture = Image.new("RGB", (64 + number, 48 + 2 * number), "white")
        draw, box = ImageDraw.Draw(picture), [10, 8, 40, 38]
        colour = COLOURS[number % len(COLOURS)]
        if number % 3 == 0:
            draw.ellipse(box, fill=colour)
        elif number % 3 == 1:
            draw.rectangle(box, fill=colour)
        else:
            draw.polygon([(10, 38), (40, 38), (25, 8)], fill=colour)
        ending = ("png", "jpg", "gif", "webp")[number % 4]
        picture.save(folder / ("below" if number % 2 else ".") / f"{number:02}.{ending}")
    (folder / "broken.jpg").write_bytes(b"this is no picture")
    (folder / "notes.txt").write_text("this is no picture")
