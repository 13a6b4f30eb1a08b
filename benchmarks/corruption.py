"""Damage each file of a catalog in turn: measure what `verify` finds, which queries are refused, what repair keeps.

    python -m benchmarks.corruption [--flips 12] [--seed 0] [--out FILE]

A catalog of 1,400 items with metadata, deleted items and unreadable inputs in two segments is copied, and one file of
the copy is damaged: a bit is flipped at drawn places, the file is cut short at drawn places, removed, emptied, or
swapped with the other segment's. Then every kind of query runs with the cpu backend, each on a newly opened catalog. An
answer is right if it equals that of the undamaged catalog. A refusal is an error of this package that names the file or
the manifest. At last the catalog is repaired. A crash ends the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness.options import out_file, whole
from benchmarks.harness.publishing import command_line, document, publish
from gpubranches import Box, Boxes, Catalog, Session, open_backend
from gpubranches.catalog import catalog as catalog_module
from gpubranches.catalog import problems_at, repair
from gpubranches.errors import GpuBranchesError
from gpubranches.ingestion import ingest
from gpubranches.research.tables import markdown_table

_ROWS, _D = 700, 48
_MODEL = Boxes([Box(np.array([1, 5], np.int16), np.array([60, 60], np.uint8), np.array([200, 200], np.uint8))])

Ask = Callable[[Catalog, Any], Any]
QUESTIONS: dict[str, Ask] = {
    "take": lambda c, b: c.codes(c.sample_ids(c.n, np.random.default_rng(0))).tolist(),
    "embeddings": lambda c, b: c.embeddings([1, 600, 900]).tolist(),
    "items": lambda c, b: c.items([1, 2, 600, 1300]),
    "where": lambda c, b: np.flatnonzero(c.where("caption >= 'row 5'")).tolist(),
    "columns": lambda c, b: [column.values for column in c.described_columns()],
    "errors": lambda c, b: c.errors(),
    "boxes": lambda c, b: b.apply(_MODEL).ids.tolist(),
    "bits": lambda c, b: b.score(np.ones(_D, np.float32), tier="bits", limit=9).ids.tolist(),
    "cosines": lambda c, b: b.search(np.ones((1, _D), np.float32), 9, tier="embeddings").ids.tolist(),
    "like": lambda c, b: Session(c, b).search(600, 5).ids.tolist(),
}


def write_catalog(folder: Path) -> Path:
    """Write the input and the catalog."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2 * _ROWS, _D)).astype(np.float32)
    rows[3] = np.nan
    for name in ("img_emb", "metadata"):
        (folder / "in" / name).mkdir(parents=True)
    np.save(folder / "in/img_emb/img_emb_0.npy", rows)
    columns = {"caption": [f"row {i}" for i in range(2 * _ROWS)], "note": [rng.bytes(100).hex() for _ in rows]}
    pq.write_table(pa.table(columns), folder / "in/metadata/metadata_0.parquet")
    catalog_module.SEGMENT_ROWS = _ROWS  # type: ignore[attr-defined]
    ingest([folder / "in"], folder / "whole", d=8)
    Catalog.open(folder / "whole").delete([0, 5, 170])
    return folder / "whole"


def answers(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each query with its answer, or with the error that it raised."""
    for what, ask in QUESTIONS.items():
        try:
            catalog = Catalog.open(path)
            with open_backend("cpu", catalog) as backend:
                yield what, ask(catalog, backend)
        except Exception as error:
            yield what, error


def damages(
    file: Path, other: Path | None, flips: int, rng: np.random.Generator
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield kinds of damage with the function that does it; other: the same file of the other segment."""
    size = file.stat().st_size

    def flip(at: int) -> None:
        content = bytearray(file.read_bytes())
        content[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)

    for at in rng.integers(0, size, flips).tolist():
        yield "flip", partial(flip, at)
    for at in rng.integers(0, size, 3).tolist():
        yield "cut", partial(os.truncate, file, at)
    yield "remove", file.unlink
    yield "empty", lambda: os.truncate(file, 0)
    if other is not None and other.exists():
        yield "swap", lambda: (other.rename(other.parent / "aside"), file.rename(other),
                               (other.parent / "aside").rename(file))  # fmt: skip


def judged(path: Path, file: Path, right: dict[str, Any]) -> Counter[str]:
    """Return the results after damage to a file: of `verify`, of all queries, and of repair."""
    found: Counter[str] = Counter({"damages": 1})
    try:
        told = problems_at(path)
    except GpuBranchesError as error:
        told = [str(error)]
    found["named"] += any(file.name in line for line in told)
    for what, answer in answers(path):
        if isinstance(answer, GpuBranchesError):
            named = any(name in str(answer) for name in (file.name, "manifest.json", "sums.u32"))
            found["refused" if named and "\n" not in str(answer) else "other errors"] += 1
        elif isinstance(answer, Exception):
            found["other errors"] += 1
        else:
            found["right" if answer == right[what] else "wrong"] += 1
    try:
        repair(path)
    except GpuBranchesError:
        return found
    found["repaired"] += not problems_at(path)
    ids = np.arange(2 * _ROWS)
    found["items given up"] += 2 * _ROWS - 4 - int(Catalog.open(path).alive(ids[~np.isin(ids, [0, 3, 5, 170])]).sum())
    return found


def main() -> None:
    """Read the options, damage the files, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corruption", description=__doc__)
    parser.add_argument("--flips", type=whole(0), default=12, help="bytes flipped in each file")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    table: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound, copy = write_catalog(folder), folder / "copy"
        right = dict(answers(sound))
        first, second = sorted((sound / "segments").iterdir())
        own = [path for path in sound.iterdir() if path.is_file() and path.name != "lock"]
        for file in sorted([*own, *first.iterdir()]):
            place, total = file.relative_to(sound), Counter[str]()
            other = second.relative_to(sound) / file.name if file.parent == first else None
            shutil.copytree(sound, copy, dirs_exist_ok=True)
            kinds = list(damages(copy / place, None if other is None else copy / other, options.flips, rng))
            for _, damage in kinds:
                shutil.rmtree(copy)
                shutil.copytree(sound, copy)
                damage()
                total += judged(copy, copy / place, right)
            table[file.name] = total
    columns = ["damages", "named", "refused", "right", "wrong", "other errors", "repaired", "items given up"]
    table["all"] = sum(table.values(), Counter[str]())
    introduction = (
        "For each damage the table counts whether `verify` names the file, the results of "
        f"{len(QUESTIONS)} queries (refused: by an error that names the file; right: equal to the answer without the "
        "damage), whether repair succeeds, and how many items it drops of "
        f"{2 * _ROWS - 4:,} each time. Manifest and constants are not repaired."
    )
    rows = [(f"`{name}`", *(f"{row[column]:,}" for column in columns)) for name, row in table.items()]
    found = markdown_table(("file", *columns), rows)
    publish(document("Damage to each file of a catalog", command_line("corruption"), introduction, found), options.out)
    sys.exit(bool(table["all"]["wrong"] or table["all"]["other errors"]))


if __name__ == "__main__":
    main()
