"""Training a head on the embeddings of a catalog or of files; `ingest` and `encode` take the file that it writes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog, disk_errors, exclusive
from gpubranches.catalog.codec import unit_rows
from gpubranches.core.arrays import evenly_spaced
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.core.files import replace_file, require_outside_catalogs
from gpubranches.encoders import Embedder, open_embedder
from gpubranches.encoders.heads import HeadSettings
from gpubranches.encoders.heads.decoder import Progress
from gpubranches.encoders.heads.training import TrainingReport, train
from gpubranches.encoders.heads.training_data import TrainingData
from gpubranches.encoders.quantizers import require_dims
from gpubranches.encoders.torch_device import import_torch
from gpubranches.encoders.vocabulary import plain_name
from gpubranches.errors import DataError, UsageError
from gpubranches.ingestion.array_file import ArrayFile
from gpubranches.ingestion.datasets import open_dataset

TRAIN_ROWS = 1_000_000
"""The largest number of evenly spaced rows that a head is trained on. They are held in memory, 2 D bytes each."""
_CHUNK_ROWS = 16_384


@dataclass(frozen=True)
class HeadReport:
    """The result of `train_head`.

    rows: used for training and held out; texts: number of texts whose ranking the head was trained to keep; epochs:
    number of trained epochs; best_epoch: the epoch whose weights were kept; recall, recall_pca: 100-recall@100 of
    held-out rows by uint8 codes, of the head and of the PCA it started from (with fewer than 100 rows, of all rows);
    recalls: by epoch; decoded: mean cosine of held-out embeddings with those decoded from their codes; seconds:
    wall-clock time; device; identity: of the head.
    """

    rows: int
    texts: int
    epochs: int
    best_epoch: int
    recall: float
    recall_pca: float
    recalls: list[tuple[int, float]]
    decoded: float
    seconds: float
    device: str
    identity: str

    @classmethod
    def of(cls, examples: TrainingData, training: TrainingReport, identity: str, seconds: float) -> HeadReport:
        """Return the report of a training."""
        return cls(
            rows=examples.n,
            texts=0 if examples.texts is None else len(examples.texts),
            epochs=training.recalls[-1][0],
            best_epoch=training.best_epoch,
            recall=training.best,
            recall_pca=training.recalls[0][1],
            recalls=training.recalls,
            decoded=training.decoded,
            seconds=seconds,
            device=training.device,
            identity=identity,
        )


def train_head(
    source: str | Path,
    out: str | Path,
    *,
    settings: HeadSettings | None = None,
    embedder: Embedder | str | None = None,
    without_texts: Collection[str] = (),
    pairs: str | Path | None = None,
    device: str = "auto",
    rows: int = TRAIN_ROWS,
    progress: Progress | None = None,
) -> HeadReport:
    """Train a head and write it to `out` (.safetensors); the same call resumes a stopped run.

    source: a catalog with embeddings, or a file or folder of them that `ingest` accepts. embedder: embeds the texts
    that the text tower is trained on (None: the catalog's own; "none": no text tower); without_texts: names of its
    vocabulary to leave out, so that they can serve as unseen texts in tests. pairs: a .npy of text embeddings, one for
    each row of `source` in its order; both towers are then trained on them as in the paper. device: "auto", "cpu" or
    "cuda". The rows that `holdout.split` holds out are never used for training. Until the training ends, its state is
    in a folder beside `out`. Raises UsageError, DataError or SpaceMismatchError before the training for data that
    cannot be trained on, BackendUnavailableError without torch.
    """
    began = time.perf_counter()
    chosen, target = settings or HeadSettings(), Path(out)
    import_torch("train-head")
    _require_target(target)
    examples = _examples(Path(source), embedder, without_texts, pairs, rows)
    folder = target.with_name(target.name + ".training")
    state_file = folder / "state.safetensors"
    with disk_errors(target):
        folder.mkdir(exist_ok=True)
    with exclusive(folder), disk_errors(target):
        head, training = train(
            examples,
            chosen,
            device=device,
            state=state_file.read_bytes() if state_file.exists() else None,
            keep=lambda content: replace_file(state_file, content),
            progress=progress,
        )
        replace_file(target, head.to_bytes())
    shutil.rmtree(folder, ignore_errors=True)
    return HeadReport.of(examples, training, head.identity, time.perf_counter() - began)


def _require_target(target: Path) -> None:
    if target.suffix != ".safetensors":
        raise UsageError(f"out: expected a file that ends in .safetensors, got {target.name!r}")
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"out: expected a file in a folder that exists, got {target}")
    require_outside_catalogs(target)


def _examples(
    source: Path, embedder: Embedder | str | None, without: Collection[str], pairs: str | Path | None, rows: int
) -> TrainingData:
    if rows < 1:
        raise UsageError(f"rows: expected 1 or more, got {rows}")
    ids, embeddings, catalog = _embeddings(source, rows)
    opened = _opened(catalog, embedder)
    made_by = "" if catalog is None else catalog.space.embedder
    if opened is not None:
        if embeddings.shape[1] != opened.D:
            raise UsageError(f"embedder: expected one of {embeddings.shape[1]} dims as the images', got {opened.D}")
        EmbeddingSpace(embedder=made_by).require(EmbeddingSpace(embedder=opened.identity))
        made_by = opened.identity
    if pairs is not None:
        return TrainingData(embeddings, ids=ids, pairs=_pairs(Path(pairs), source, ids), embedder=made_by)
    if opened is None:
        return TrainingData(embeddings, ids=ids, embedder=made_by)
    left_out = {plain_name(name) for name in without}
    names = [name for name in opened.training_texts if plain_name(name) not in left_out]
    known = None if catalog is None else catalog.text_mean
    return TrainingData(
        embeddings,
        ids=ids,
        texts=opened.texts(names) if names else None,
        names=names,
        text_mean=opened.text_mean if known is None else known,
        embedder=made_by,
    )


def _opened(catalog: Catalog | None, embedder: Embedder | str | None) -> Embedder | None:
    """Return the requested embedder, else the catalog's own; None for "none", or if there is neither."""
    chosen = embedder if embedder is not None or catalog is None else catalog.embedder or None
    if not isinstance(chosen, str):
        return chosen
    identity = "" if catalog is None else catalog.space.embedder
    return None if chosen == "none" else open_embedder(chosen, identity=identity)


def _embeddings(source: Path, rows: int) -> tuple[NDArray[np.int64], NDArray[np.float16], Catalog | None]:
    """Return ids, unit embeddings, and the catalog if the source is one."""
    if (source / "manifest.json").is_file():
        catalog = Catalog.open(source)
        if not catalog.stores_embeddings:
            raise UsageError(f"train-head: expected a catalog with embeddings, {source} stores none")
        ids = catalog.ids[evenly_spaced(catalog.n, rows)]
        unit = np.empty((len(ids), catalog.D), np.float16)
        for start in range(0, len(ids), _CHUNK_ROWS):
            unit[start : start + _CHUNK_ROWS] = catalog.embeddings(ids[start : start + _CHUNK_ROWS])
        return ids, unit, catalog
    data = open_dataset(source)
    if data.kind != "embeddings":
        raise UsageError(f"train-head: expected embeddings, {source} has codes")
    require_dims(data.dim, str(source))
    ids = evenly_spaced(data.n, rows)
    return ids, _unit(data.take, ids, data.dim, str(source)), None


def _unit(take: Any, ids: NDArray[np.int64], D: int, name: str) -> NDArray[np.float16]:
    """Return rows of a source scaled to unit length, (m, D) float16. Raises DataError for rows without a direction."""
    out = np.empty((len(ids), D), np.float16)
    for start in range(0, len(ids), _CHUNK_ROWS):
        rows = ids[start : start + _CHUNK_ROWS]
        out[start : start + _CHUNK_ROWS], bad = unit_rows(take(rows))
        if bad.any():
            raise DataError(
                f"{name}: expected rows of finite numbers that are not zero, {int(bad.sum())} of the rows from "
                f"{int(rows[0])} on are not, such as {rows[bad][:5].tolist()}; remove them, or embed them again"
            )
    return out


def _pairs(path: Path, source: Path, ids: NDArray[np.int64]) -> NDArray[np.float16]:
    data = open_dataset(path)
    if not isinstance(data, ArrayFile) or data.kind != "embeddings":
        raise UsageError(f"pairs: expected a .npy or .fbin of text embeddings, got {path}")
    if len(ids) and data.n <= int(ids[-1]):
        raise UsageError(
            f"pairs: expected a text of every image of {source}, {int(ids[-1]) + 1:,} rows and more, got {data.n:,}"
        )
    return _unit(data.take, ids, data.dim, str(path))
