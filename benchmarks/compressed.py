"""Compare compressed indexes of faiss with the sign bits, as shortlists for embeddings that are not on the card.

    python -m benchmarks.compressed --out benchmarks/results/compressed.md

The data is that of `benchmarks.harness.real_data`. Queries are images that are left out of the catalog, and texts. An
index makes a shortlist, and the embeddings sort it, so recall@10 is the share of the true 10 nearest in the shortlist.
The indexes of faiss run on the CPU; the classes of faiss on a card store and probe the same. No time is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.options import out_file, whole
from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.harness.real_data import FOLDERS, add_data_option, parse_with_data
from gpubranches.encoders.quantizers import SignQuantizer
from gpubranches.research.tables import Section, short

K = 10
SHORTLISTS = (10, 30, 100, 300)
PROBES = (4, 16, 64, 256)
ITERATIONS = 10
"""Iterations of k-means."""
ID_BYTES = 8
"""faiss keeps an id of 8 bytes beside each code of an inverted list."""
Rows = NDArray[np.float32]
Shortlists = Callable[[Rows], NDArray[np.int64]]
"""Return the rows, (q, SHORTLISTS[-1]) int64, best first, of the longest shortlist for directions, (q, D)."""


@dataclass(frozen=True)
class Index:
    """A way to make shortlists: its name, the bytes of a row in memory, and the share of the rows that a query reads.

    probed: number of lists that a query reads, 0 where it reads all rows.
    """

    name: str
    bytes_a_row: int
    shortlists: Shortlists
    probed: int = 0
    read: float = 1.0


def main() -> None:
    """Read the options, measure, print and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compressed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_option(parser)
    parser.add_argument("--queries", type=whole(1), default=300, help="so many images, and so many texts")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parse_with_data(parser)
    images = np.concatenate([np.load(options.data / name / "img_emb/img_emb_0.npy") for name in FOLDERS])
    texts = np.load(options.data / "text/text_emb_0.npy")
    publish(page(images.astype(np.float32), texts.astype(np.float32), options.queries), options.out)


def page(images: Rows, texts: Rows, queries: int) -> str:
    """Return the page for embeddings of images, (n, D), of which `queries` are left out as queries, and of texts."""
    order = np.random.default_rng(0).permutation(len(images))
    asked, rows = images[order[:queries]], images[order[queries:]]
    signs = SignQuantizer().fit(rows)
    centred = _unit(rows - signs.mean_)
    kinds = {"images": _unit(asked - signs.mean_), "texts": _unit(texts - texts.mean(axis=0))[:queries]}
    true = {kind: np.argsort(-(own @ centred.T), axis=1, kind="stable")[:, :K] for kind, own in kinds.items()}
    lists = int(4 * sqrt(len(rows)))
    table = []
    for index in [sign_bits(signs, rows), *indexes_of_faiss(centred, lists, kinds["images"])]:
        about = (index.name, index.probed or "", f"{index.bytes_a_row}", f"{index.bytes_a_row * index.read:.1f}")
        for kind, own in kinds.items():
            table.append((*about, kind, *_recalls(index.shortlists(own), true[kind])))
    told = (
        f"{len(rows):,} embeddings of {rows.shape[1]} dims, {queries} images and {len(kinds['texts'])} texts as "
        f"queries. The indexes have {lists} lists. The sign bits are those of every catalog, with weights of 4 bits. "
        "Read: bytes that a query by an image reads for each row of the catalog."
    )
    header = ("index", "lists probed", "bytes a row", "read", "queries", *(f"shortlist {m}" for m in SHORTLISTS))
    section = Section(f"recall@{K}", header, table)
    return document("Compressed indexes beside the sign bits", command_line("compressed"), told, section.markdown())


def sign_bits(signs: SignQuantizer, rows: Rows) -> Index:
    """Return the scan over sign bits, as every backend does it."""
    bits, scales = signs.encode(rows)

    def shortlists(directions: Rows) -> NDArray[np.int64]:
        scores = np.stack([signs.planes(one).scores(bits, scales) for one in directions])
        return np.argsort(-scores, axis=1, kind="stable")[:, : SHORTLISTS[-1]]

    return Index("sign bits", bits.shape[1] + scales.itemsize, shortlists)


def indexes_of_faiss(rows: Rows, lists: int, asked: Rows) -> Iterator[Index]:
    """Yield the compressed indexes of faiss over rows of length 1, by inner product; asked: queries for `read`."""
    import faiss

    D, metric = rows.shape[1], faiss.METRIC_INNER_PRODUCT
    means = faiss.Kmeans(D, lists, niter=ITERATIONS, spherical=True)
    means.train(rows)
    quantizer = faiss.IndexFlatIP(D)
    quantizer.add(means.centroids)
    made: dict[str, Any] = {
        "IVF-SQ8": faiss.IndexIVFScalarQuantizer(quantizer, D, lists, faiss.ScalarQuantizer.QT_8bit, metric),
        f"IVF-PQ{D // 8}": faiss.IndexIVFPQ(quantizer, D, lists, D // 8, 8, metric),
        "IVF-RaBitQ": faiss.IndexIVFRaBitQ(quantizer, D, lists, metric),
    }
    made[f"IVF-PQ{D // 8}"].pq.cp.niter = ITERATIONS
    for name, index in made.items():
        index.train(rows)
        index.add(rows)
        sizes = np.array([index.invlists.list_size(i) for i in range(lists)])
        for probes in PROBES:

            def shortlists(directions: Rows, index: Any = index, probes: int = probes) -> NDArray[np.int64]:
                index.nprobe = probes
                nearest: NDArray[np.int64] = index.search(directions, SHORTLISTS[-1])[1]
                return nearest

            probed = index.quantizer.search(asked, min(probes, lists))[1]
            read = float(sizes[probed].sum(axis=1).mean() / len(rows))
            yield Index(name, index.code_size + ID_BYTES, shortlists, probes, read)


def _recalls(found: NDArray[np.int64], true: NDArray[np.int64]) -> list[str]:
    """Return the share of the true nearest in shortlists of each length."""
    pairs = [(one[:m], nearest) for m in SHORTLISTS for one, nearest in zip(found, true, strict=True)]
    inside = np.array([np.isin(nearest, one).mean() for one, nearest in pairs]).reshape(len(SHORTLISTS), -1)
    return [short(float(share)) for share in inside.mean(axis=1)]


def _unit(rows: Rows) -> Rows:
    unit: Rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


if __name__ == "__main__":
    main()
