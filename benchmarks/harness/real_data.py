"""The labelled data of the benchmarks of quality: real CLIP embeddings, as catalogs on disk and in memory.

The data is a folder of clip-retrieval folders and `text/` (text_emb_0.npy, names.json), given by --data or the
environment variable GPUBRANCHES_EVAL_DATA, with the columns dataset, label and caption.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness.options import out_file, whole
from gpubranches import Catalog, open_backend
from gpubranches.encoders import VocabularyEmbedder
from gpubranches.ingestion import ingest
from gpubranches.research.quality import Concept, LabelledCatalog, find_concepts
from gpubranches.research.quality.concepts import FEWEST, random_subset

SHUFFLE_SEED = 0
FOLDERS = ("caltech101", "pets_dtd", "distractors")


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add --data, for `parse_with_data`."""
    data = os.environ.get("GPUBRANCHES_EVAL_DATA") or None
    parser.add_argument("--data", type=Path, default=data, help="folder of the data")


def add_data_options(parser: argparse.ArgumentParser, *, seeds: int) -> None:
    """Add --data, --concepts and --seeds; seeds: the default."""
    add_data_option(parser)
    parser.add_argument("--concepts", type=whole(1), help="a random subset of so many (default: all)")
    parser.add_argument("--seeds", type=whole(1), default=seeds)


def parse_with_data(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options, with the folder of the data as an absolute path; exit if no folder is named."""
    options = parser.parse_args()
    if options.data is None:
        parser.error("expected --data or GPUBRANCHES_EVAL_DATA, got neither")
    options.data = options.data.resolve()
    return options


def simulation_options(name: str, doc: str | None, *, seeds: int) -> argparse.Namespace:
    """Return the options of a benchmark that plays the simulated user and writes one page; seeds: the default."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_options(parser, seeds=seeds)
    parser.add_argument("--positives", type=whole(2), nargs="+", default=[8, 22], help="items marked right, at most")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    return parse_with_data(parser)


def open_vocabulary(data: Path) -> VocabularyEmbedder:
    """Return the embedder for the texts of the data."""
    return VocabularyEmbedder.load(data / "text/text_emb_0.npy", data / "text/names.json")


@contextmanager
def opened_data(
    data: Path, count: int | None, *, fewest: int = FEWEST
) -> Iterator[tuple[LabelledCatalog, list[Concept]]]:
    """Yield the data as a catalog in memory, and its concepts of `fewest` items, or a random `count` of them."""
    vocabulary = open_vocabulary(data)
    with tempfile.TemporaryDirectory(prefix="gpubranches-data-") as made:
        catalog = Catalog.open(build_catalog(data, Path(made)))
        with open_backend("cpu", catalog) as backend:
            concepts = find_concepts(catalog, vocabulary.knows, fewest=fewest)
            yield LabelledCatalog(catalog, backend, vocabulary), random_subset(concepts, count)


def build_catalog(data: Path, folder: Path, *, folders: Sequence[str] = FOLDERS, shuffled: bool = True) -> Path:
    """Put the rows of folders, shuffled or in order, into one clip-retrieval folder, and ingest it.

    Returns the catalog's path.
    """
    embeddings, tables = [], []
    for name in folders:
        rows = np.load(data / name / "img_emb/img_emb_0.npy")
        table = pq.read_table(data / name / "metadata/metadata_0.parquet").to_pydict()
        nothing = [None] * len(rows)
        classes = table.get("label", nothing)
        tables.append(
            pa.table(
                {
                    "dataset": pa.array(table.get("dataset", [name] * len(rows)), pa.string()),
                    "label": pa.array(classes, pa.int64()),
                    "caption": pa.array(table.get("caption", nothing), pa.string()),
                }
            )
        )
        embeddings.append(rows.astype(np.float16))
    everything, table = np.concatenate(embeddings), pa.concat_tables(tables)
    n = len(everything)
    order = np.random.default_rng(SHUFFLE_SEED).permutation(n) if shuffled else np.arange(n)
    source = folder / "input"
    (source / "img_emb").mkdir(parents=True)
    (source / "metadata").mkdir()
    np.save(source / "img_emb/img_emb_0.npy", everything[order])
    pq.write_table(table.take(order), source / "metadata/metadata_0.parquet")
    text = data / "text"
    ingest(
        [source],
        folder / "catalog",
        embedder=f"vocabulary:{text / 'text_emb_0.npy'},{text / 'names.json'}",
    )
    return folder / "catalog"
