"""Measure what a second model of pictures adds to CLIP, on the photos of the real data.

    python -m benchmarks.two_models --embeddings other.npy --name NAME --out benchmarks/results/two_models.md

The data is `caltech101` of `benchmarks.harness.real_data`. `--embeddings` is a .npy of embeddings of the same photos by
another model, (n, D) floats in the order of the metadata. Three catalogs are compared: CLIP alone, the other model
alone, and both. The simulated user sees the catalog of CLIP, so all catalogs get the same marks.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.harness.options import out_file, whole
from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.harness.real_data import add_data_options, open_vocabulary, parse_with_data
from gpubranches import Catalog, open_backend
from gpubranches.encoders import Embedder
from gpubranches.encoders.joint import JointEmbedder
from gpubranches.encoders.model_embedder import ModelEmbedder
from gpubranches.learning import part_weights
from gpubranches.research.quality import Comparison, Draw, LabelledCatalog, evaluate, find_concepts
from gpubranches.research.quality.answers import Answer, Model
from gpubranches.research.quality.concepts import Concept, random_subset
from gpubranches.research.quality.labelled_catalog import UNCHECKED
from gpubranches.research.quality.measures import average_precision
from gpubranches.research.quality.product_models import answer_of
from gpubranches.research.tables import Section, with_error
from gpubranches.retrieval.queries import Words

FEWEST = 20
ASKED = 5
"""Items of each class that are searched by."""
MODELS = {
    "CLIP": "CLIP alone",
    "other": "the other model alone",
    "equal": "both, of equal weight",
    "both": "both, weighed by the marks",
}
"""The catalogs and settings that are compared; those with CLIP are told the words of the query."""
MEASURES = ("f1", "recall", "precision", "average_precision")
HEADER = ("catalog", "F1", "recall", "precision", "average precision", "F1 minus CLIP's")


class Given:
    """A model of pictures whose embeddings are given."""

    def __init__(self, name: str, dim: int):
        self.name, self.dim, self.identity = name, dim, name

    def preprocess(self, image: object) -> object:
        """Raise NotImplementedError, because the model is not here."""
        raise NotImplementedError(self.name)

    def images(self, batch: object) -> NDArray[np.float32]:
        """Raise NotImplementedError, because the model is not here."""
        raise NotImplementedError(self.name)


def main() -> None:
    """Read the options, run, print and write the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.two_models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_options(parser, seeds=1)
    parser.add_argument("--embeddings", type=Path, required=True, help="embeddings of the photos by another model")
    parser.add_argument("--name", required=True, help="the name of that model")
    parser.add_argument("--positives", type=whole(2), nargs="+", default=[4, 8], help="items marked right, at most")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parse_with_data(parser)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="gpubranches-two-")))
        catalogs = {name: labelled(opened, path) for name, path in make_catalogs(options, folder).items()}
        clip = catalogs["CLIP"]
        clip.embedder = open_vocabulary(options.data)
        catalogs["both"].embedder = _both(options)
        concepts = find_concepts(clip.catalog, clip.embedder.knows, columns=("label",), fewest=FEWEST)
        concepts = random_subset(concepts, options.concepts)
        compared = evaluate(
            clip,
            concepts,
            models={name: Model(told, _answering(catalogs, name)) for name, told in MODELS.items()},
            positives=tuple(options.positives),
            seeds=options.seeds,
        )
        rows = [(name, *searches(each, concepts)) for name, each in catalogs.items()]
        rows.append(("both, by one cosine of joined embeddings", by_one_cosine(catalogs["both"], concepts), ""))
    introduction = (
        f"{clip.n:,} photos of Caltech-101, {len(concepts)} classes, {options.seeds} seeds; CLIP is ViT-B/32, the "
        f"other model is {options.name}. Up to p marked right, 20 wrong, 1,000 random negatives, the same for all "
        "catalogs: the user sees the catalog of CLIP. Means over classes ± standard error."
    )
    tables = [_table(compared, p) for p in options.positives]
    tables.append(Section("Searches: mean average precision", ("catalog", "by an item", "by words"), rows).markdown())
    publish(document("What a second model adds", command_line("two_models"), introduction, *tables), options.out)


def make_catalogs(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """Make the catalogs of CLIP, the other model and both; return their folders."""
    place = options.data / "caltech101"
    clip, table = unit(np.load(place / "img_emb/img_emb_0.npy")), pq.read_table(place / "metadata/metadata_0.parquet")
    other = unit(np.load(options.embeddings))
    parts: dict[str, tuple[NDArray[np.float32], Embedder | None]] = {
        "CLIP": (clip, open_vocabulary(options.data)),
        "other": (other, None),
        "both": (np.concatenate([clip, other], axis=1), _both(options)),
    }
    for name, (rows, embedder) in parts.items():
        Catalog.from_embeddings(folder / name, rows, metadata=table, embedder=embedder)
    return {name: folder / name for name in parts}


def labelled(opened: ExitStack, path: Path) -> LabelledCatalog:
    """Open a catalog until the stack ends."""
    catalog = Catalog.open(path)
    return LabelledCatalog(catalog, opened.enter_context(open_backend("cpu", catalog)))


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return rows scaled to unit length."""
    wide = rows.astype(np.float32)
    scaled: NDArray[np.float32] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return scaled


def searches(each: LabelledCatalog, concepts: list[Concept]) -> tuple[str, str]:
    """Return the mean average precision of searches by items of the concepts and by their names, "" without texts."""
    by_item, by_words = [], []
    with each.session(0) as session:
        for concept in concepts:
            right = each.flags(concept.items)
            for item in concept.items[:ASKED].tolist():
                by_item.append(_precision(each, each.rows(session.search(item, each.n).ids), item, right))
            if concept.text and each.embedder is not None:
                by_words.append(average_precision(each.rows(session.search(Words(concept.asked), each.n).ids), right))
    return f"{np.mean(by_item):.3f}", f"{np.mean(by_words):.3f}" if by_words else ""


def by_one_cosine(each: LabelledCatalog, concepts: list[Concept]) -> str:
    """Return the mean average precision of searches by items where one cosine of whole embeddings ranks all."""
    found = []
    vectors = each.embeddings / each.lengths[:, None]
    for concept in concepts:
        right = each.flags(concept.items)
        for item in concept.items[:ASKED].tolist():
            order = np.argsort(-vectors @ vectors[each.rows(np.array([item]))[0]], kind="stable")
            found.append(_precision(each, order, item, right))
    return f"{np.mean(found):.3f}"


def _precision(each: LabelledCatalog, order: NDArray[np.intp], item: int, right: NDArray[np.bool_]) -> float:
    """Return the average precision of an order of rows, without the item itself."""
    others = right & ~each.flags(np.array([item]))
    return average_precision(order[order != each.rows(np.array([item]))[0]], others)


def _both(options: argparse.Namespace) -> JointEmbedder:
    dim = int(np.load(options.embeddings, mmap_mode="r").shape[1])
    return JointEmbedder([open_vocabulary(options.data), ModelEmbedder(Given(options.name, dim), "other:", "other")])


def _answering(catalogs: dict[str, LabelledCatalog], name: str) -> Callable[[LabelledCatalog, Draw], Answer]:
    kind = "both" if name == "equal" else name
    shares = (0.5,) if name == "equal" else part_weights.SHARES

    def answer(_: LabelledCatalog, draw: Draw) -> Answer:
        with mock.patch.object(part_weights, "SHARES", shares), catalogs[kind].marked(draw) as session:
            ranking = session.refine(random_negatives=UNCHECKED, query=None if kind == "other" else draw.query)
            return answer_of(catalogs[kind], ranking)

    return answer


def _table(compared: Comparison, p: int) -> str:
    rows = []
    for name, told in MODELS.items():
        cells = [with_error(*compared.mean(name, measure, p)) for measure in MEASURES]
        gain, error, wins = compared.paired(name, "CLIP", "f1", p)
        rows.append((told, *cells, f"{with_error(gain, error)}, wins {wins:.0%}"))
    return Section(f"{p} marked right", HEADER, rows).markdown()


if __name__ == "__main__":
    main()
