"""Measure how fast ingest reads pictures from a folder, tars and tables, and in how much memory.

The same pictures are in a folder, in tars of 1,000, in a Parquet file, and in an Arrow file as `datasets` saves it.
Each round ingests each of them in a separate process, in another order; a rate is the median over the rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.harness.options import in_one_sentence, out_file, whole
from benchmarks.harness.publishing import command_line, document, publish
from gpubranches.research.tables import Section

_SHARD = 1000
_INGEST = """
import json, sys, time
from benchmarks.harness.machine import PeakMemory
from gpubranches.encoders import open_embedder
from gpubranches.ingestion import build_catalog
embedder = open_embedder(sys.argv[3])
began = time.perf_counter()
with PeakMemory(0.02) as memory:
    report = build_catalog([sys.argv[1]], sys.argv[2], embedder=embedder)
seconds = time.perf_counter() - began
print(json.dumps([report.n / seconds, (memory.peak_bytes - memory.before_bytes) / 1e6]))
"""


def drawn(count: int, side: int) -> Iterator[bytes]:
    """Yield JPEG pictures of smooth colours, side x side pixels."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        file = io.BytesIO()
        small = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        yield file.getvalue()


def write_inputs(folder: Path, count: int, side: int) -> dict[str, Path]:
    """Write the same pictures as each kind of input; return their folders."""
    kinds = {kind: folder / kind for kind in ("folder", "tars", "parquet", "arrow")}
    for path in kinds.values():
        path.mkdir()
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    with (
        pq.ParquetWriter(kinds["parquet"] / "train.parquet", schema) as parquet,
        pa.OSFile(str(kinds["arrow"] / "data.arrow"), "wb") as file,
        pa.ipc.new_stream(file, schema) as arrow,
    ):
        pictures = enumerate(drawn(count, side))
        for shard in range(-(-count // _SHARD)):
            part = [next(pictures) for _ in range(min(_SHARD, count - shard * _SHARD))]
            rows = [{"image": {"bytes": data, "path": f"{row}.jpg"}, "label": row} for row, data in part]
            table = pa.Table.from_pylist(rows, schema)
            parquet.write_table(table)
            arrow.write_table(table, max_chunksize=100)
            with tarfile.open(kinds["tars"] / f"{shard:05}.tar", "w") as tar:
                for row, data in part:
                    (kinds["folder"] / f"{row:09}.jpg").write_bytes(data)
                    described = json.dumps({"label": row}).encode()
                    for name, content in ((f"{row:09}.jpg", data), (f"{row:09}.json", described)):
                        entry = tarfile.TarInfo(name)
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
    return kinds


def measured(path: Path, out: Path, embedder: str) -> tuple[float, float]:
    """Ingest an input in a separate process; return pictures per second, and its memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", _INGEST, str(path), str(out), embedder], capture_output=True, text=True, check=True
    )
    shutil.rmtree(out)
    rate, memory = json.loads(done.stdout)
    return float(rate), float(memory)


def main() -> None:
    """Write the inputs, ingest them in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=whole(1), default=4000, help="in each input (%(default)s)")
    parser.add_argument("--side", type=whole(8), default=256, help="pixels (%(default)s)")
    parser.add_argument("--rounds", type=whole(1), default=3, help="(%(default)s)")
    parser.add_argument("--embedder", default="demo", help="a spec (%(default)s)")
    parser.add_argument("--out", type=out_file, help="file of Markdown to write as well")
    options = parser.parse_args()
    with in_one_sentence(), tempfile.TemporaryDirectory() as scratch:
        kinds = write_inputs(Path(scratch), options.pictures, options.side)
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        names = list(kinds)
        for number in range(options.rounds):
            for kind in names[number % len(names) :] + names[: number % len(names)]:
                found[kind].append(measured(kinds[kind], Path(scratch, "catalog"), options.embedder))
    rates = {kind: statistics.median(rate for rate, _ in each) for kind, each in found.items()}
    rows = [
        (
            kind,
            f"{rates[kind]:,.0f}",
            f"{rates[kind] / rates['folder']:.2f}",
            f"{max(mb for _, mb in found[kind]):,.0f}",
        )
        for kind in kinds
    ]
    table = Section(
        f"{options.pictures:,} pictures", ("input", "pictures a second", "of the folder", "memory, MB"), rows
    )
    publish(document("Inputs", command_line("inputs"), table.markdown()), options.out)


if __name__ == "__main__":
    main()
