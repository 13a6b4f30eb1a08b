"""Measure whether the map of an answer shows a second, unmarked kind of what is wanted, on real embeddings.

    python -m benchmarks.planes --out benchmarks/results/planes.md

The data is that of `benchmarks.harness.real_data`, with the groups of `broad.json`. A simulated user wants a group,
such as all boats, and marks 8 items of one of its classes right and 12 items of no class of the group wrong. The other
classes of the group are missed. For each plane the program prints the share of items of the same missed class among the
10 nearest points of an item of this class, mean over the classes. The planes are the first two principal components of

- everything drawn, without whitening
- matches and what lies below the cut, each of the same weight, without whitening
- the same, whitened by the covariance of all embeddings
- the same, whitened by the differences between nearest neighbours: the plane of the product
- matches, what lies below the cut and all others, each of the same weight, whitened so, too
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.options import out_file, whole
from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.harness.real_data import add_data_option, build_catalog, parse_with_data
from gpubranches import Catalog, Session, open_backend
from gpubranches.core.arrays import among
from gpubranches.research.quality.concepts import find_classes
from gpubranches.research.quality.groups import find_groups, read_groups
from gpubranches.research.tables import markdown_table
from gpubranches.retrieval.catalog_statistics import embedding_statistics
from gpubranches.retrieval.projection import Plane, fit_plane
from gpubranches.service.answer_map import AnswerMaps

Ids = NDArray[np.int64]
RIGHT, WRONG, NEAR = 8, 12, 10
PRODUCT = "matches and below, whitened by neighbours"


def main() -> None:
    """Read the options, run, print and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_option(parser)
    parser.add_argument("--classes", type=whole(1), default=3, help="classes of a group that are marked, at most")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parse_with_data(parser)
    found: dict[str, list[float]] = {}
    chances: list[float] = []
    with tempfile.TemporaryDirectory(prefix="gpubranches-planes-") as made:
        catalog = Catalog.open(build_catalog(options.data, Path(made)))
        with open_backend("cpu", catalog) as backend:
            for marked, missed, group in cases(catalog, options.data, options.classes):
                session = Session(catalog, backend, embedder=None)
                rng = np.random.default_rng(len(chances))
                session.mark(rng.choice(marked, RIGHT, replace=False), +1)
                others = np.setdiff1d(np.arange(catalog.n), group)
                session.mark(rng.choice(others, WRONG, replace=False), -1)
                session.find_all()
                ids = AnswerMaps().get(session.last_found(), session.last_answer()).ids
                chances.append(float(np.mean([np.mean(among(ids, items)) for items in missed])))
                for name, plane in planes(catalog, session, ids).items():
                    shares = [purity(plane.points(catalog, ids), among(ids, items)) for items in missed]
                    found.setdefault(name, []).append(float(np.mean(shares)))
    rows = [(name, f"{np.mean(shares):.3f}") for name, shares in found.items()]
    introduction = (
        f"{catalog.n:,} items, {len(chances)} searches for one class of a group. By chance {np.mean(chances):.3f}. The "
        f"product's is: {PRODUCT}."
    )
    table = markdown_table(("plane", f"of the {NEAR} nearest"), rows)
    publish(document("Does the map show what was missed", command_line("planes"), introduction, table), options.out)


def cases(catalog: Catalog, data: Path, most: int) -> Iterator[tuple[Ids, list[Ids], Ids]]:
    """Yield the items of the marked class, those of each missed one, and all of the group."""
    classes = [found.items for found in find_classes(catalog, ("dataset", "label"), "caption")]
    for concept in find_groups(catalog, read_groups(data / "broad.json"), None):
        kinds = [items for items in classes if among(items, concept.items).all() and len(items) >= RIGHT + NEAR]
        for number in range(min(most, len(kinds)) if len(kinds) > 1 else 0):
            yield kinds[number], [items for other, items in enumerate(kinds) if other != number], concept.items


def planes(catalog: Catalog, session: Session, ids: Ids) -> dict[str, Plane]:
    """Return the planes by name. ids: of the points."""
    ranking = session.last_found().ranking
    rng = np.random.default_rng(0)
    matches, below = (rng.permutation(ranking.ids[rows]) for rows in (ranking.matched, ~ranking.matched))
    rest = rng.permutation(ids[~among(ids, ranking.ids)])
    nothing = np.eye(catalog.D, dtype=np.float32)
    return {
        "everything, not whitened": principal(catalog, [ids], nothing),
        "matches and below, not whitened": principal(catalog, [matches, below], nothing),
        "matches and below, whitened by the covariance": principal(
            catalog, [matches, below], embedding_statistics(catalog).overall.matrix_
        ),
        PRODUCT: fit_plane(catalog, [matches, below]),
        "matches, below and others, whitened by neighbours": fit_plane(catalog, [matches, below, rest]),
    }


def principal(catalog: Catalog, groups: Sequence[Ids], whitening: NDArray[np.float32]) -> Plane:
    """Return the plane of the first two principal components of whitened groups of the same weight."""
    rows = [catalog.embeddings(ids) for ids in groups]
    mean = np.mean([part.mean(axis=0) for part in rows], axis=0).astype(np.float32)
    moment = np.zeros((catalog.D, catalog.D))
    for part in rows:
        whitened = ((part - mean) @ whitening).astype(np.float64)
        moment += whitened.T @ whitened / len(part)
    return Plane(mean, (whitening @ np.linalg.eigh(moment)[1][:, :-3:-1]).astype(np.float32))


def purity(points: NDArray[np.float32], of: NDArray[np.bool_]) -> float:
    """Return the share of points of a class among the nearest ones of each, on average. points: (m, 2); of: (m,)."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=NEAR + 1).fit(points).kneighbors(points[of], return_distance=False)[:, 1:]
    return float(of[near].mean())


if __name__ == "__main__":
    main()
