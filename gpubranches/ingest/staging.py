"""Embedding a folder of pictures into a staging folder of the clip-retrieval layout, partition by partition."""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpubranches.embed import Embedder
from gpubranches.errors import DataError
from gpubranches.files import output, sync_folder, write_npy
from gpubranches.pictures.images import list_images, open_image, printable
from gpubranches.space import digest

PARTITION = 2048
"""Pictures a partition: what a kill can cost."""
_BATCHES_AHEAD = 3

Progress = Callable[[str, int, int], None]
Decoded = tuple[Any, str | None]
"""What the embedder prepared, or None and the reason."""


def embed_folder(folder: Path, out: Path, embedder: Embedder, *, batch_size: int, progress: Progress) -> None:
    """Embed all pictures under `folder` into `out` (img_emb, metadata); finished partitions are kept and skipped.

    Metadata: image_path, relative, and error, the reason of a picture that could not be read; its row is zero.
    Pictures are decoded by one thread a core, `batch_size` at a time and three batches ahead.
    """
    paths = list_images(folder)
    _claim(out, digest(embedder.identity, str(folder.resolve()), str(PARTITION), "\0".join(map(printable, paths))))
    done = 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        for number, start in enumerate(range(0, len(paths), PARTITION)):
            part = paths[start : start + PARTITION]
            target = out / "img_emb" / f"img_emb_{number}.npy"
            if not target.exists():
                embeddings = np.zeros((len(part), embedder.D), np.float16)
                reasons: list[str | None] = []
                for prepared in _decoded(folder, part, embedder, batch_size, workers):
                    at = len(reasons)
                    good = [i for i, (_, reason) in enumerate(prepared) if reason is None]
                    embeddings[[at + i for i in good]] = embedder.encode([prepared[i][0] for i in good])
                    reasons += [reason for _, reason in prepared]
                    progress("embedding", done + len(reasons), len(paths))
                _write_partition(out, number, part, embeddings, reasons)
            done += len(part)
            progress("embedding", done, len(paths))
    if not paths:
        with output(out / "img_emb" / "img_emb_0.npy") as file:
            write_npy(file, np.zeros((0, embedder.D), np.float16))


def _claim(out: Path, fingerprint: str) -> None:
    """Keep what another run with the same pictures and model left; clear anything else."""
    note = out / "input.json"
    if note.exists() and json.loads(note.read_text(encoding="utf-8")).get("fingerprint") == fingerprint:
        return
    shutil.rmtree(out, ignore_errors=True)
    for name in ("img_emb", "metadata"):
        (out / name).mkdir(parents=True)
    note.write_text(json.dumps({"fingerprint": fingerprint}), encoding="utf-8")


def _decoded(
    folder: Path, paths: Sequence[str], embedder: Embedder, batch_size: int, workers: ThreadPoolExecutor
) -> Iterator[list[Decoded]]:
    """Yield batches of decoded pictures in order, a few batches ahead."""

    def decode(relative: str) -> Decoded:
        try:
            return embedder.preprocess(open_image(folder / relative)), None
        except DataError as error:
            return None, printable(str(error).removeprefix(f"{folder / relative}: "))

    waiting: deque[Future[Decoded]] = deque()
    pending = iter(paths)
    while True:
        while len(waiting) < batch_size * _BATCHES_AHEAD and (path := next(pending, None)) is not None:
            waiting.append(workers.submit(decode, path))
        if not waiting:
            return
        yield [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]


def _write_partition(
    out: Path, number: int, paths: Sequence[str], embeddings: np.ndarray[Any, Any], reasons: list[str | None]
) -> None:
    """Write metadata, then embeddings; the renamed .npy is what makes the partition count."""
    names = [printable(path) for path in paths]
    table = pa.table({"image_path": names, "error": pa.array(reasons, pa.string())})
    metadata = out / "metadata" / f"metadata_{number}.parquet"
    with output(metadata) as file:
        pq.write_table(table, file)
    sync_folder(metadata.parent)
    partial = out / "img_emb" / f"partial_{number}.npy"
    with output(partial) as file:
        write_npy(file, embeddings)
    partial.replace(out / "img_emb" / f"img_emb_{number}.npy")
    sync_folder(partial.parent)
