"""Measure what queries of several terms find: mean average precision of class names with items added or subtracted.

    gpubranches ingest $DATA/caltech101 $DATA/pets_dtd $DATA/distractors --out catalog --embedder vocabulary:...
    python -m benchmarks.combinations catalog

For each class that has a text, the queries are its name, each of five of its items, and both together. The wrong item
nearest to the query is subtracted: by a share of the query's component in its direction, or with a fixed weight. Items
that a query names are not counted. "wrong" is the share of the first R items, R the size of the class, that are of the
subtracted item's class.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpubranches import Catalog
from gpubranches.core.arrays import unit
from gpubranches.encoders import VocabularyEmbedder, open_embedder
from gpubranches.research.tables import markdown_table
from gpubranches.retrieval import queries as weighed
from gpubranches.retrieval.queries import combine

SHARES = (0.0, 0.25, 0.5, 1.0)
FIXED = (0.1, 0.25, 0.5)
NONE = np.zeros((0, 0), np.float32)


class Classes:
    """Unit rows of a labelled catalog's items and of the names of its classes, each centred on the mean of its kind."""

    def __init__(self, catalog: Catalog):
        embedder = open_embedder(catalog.embedder)
        assert isinstance(embedder, VocabularyEmbedder)  # nosec B101  # what this benchmark is about
        ids = np.arange(catalog.next_id)
        self.labels = np.array([str(row.get("caption") or "") for row in catalog.items(ids)])
        assert catalog.signs is not None  # nosec B101  # a catalog with embeddings has them
        assert catalog.text_mean is not None  # nosec B101  # a catalog with a vocabulary has it
        self.items = unit(catalog.embeddings(ids) - catalog.signs.mean_)
        self.names = [
            name for name in sorted(set(self.labels)) if (self.labels == name).sum() > 9 and embedder.knows(name)
        ]
        self.texts = unit(embedder.texts(self.names) - catalog.text_mean)

    def measure(self, direction: NDArray[np.float32], name: str, named: list[int], wrong: str) -> tuple[float, float]:
        """Return average precision, and the share of `wrong` among as many items as are right."""
        order = np.argsort(-(self.items @ direction), kind="stable")
        found = self.labels[order[~np.isin(order, named)]]
        places = np.flatnonzero(found == name)
        return float((np.arange(1, len(places) + 1) / (places + 1)).mean()), float(
            (found[: len(places)] == wrong).mean()
        )

    def nearest_wrong(self, direction: NDArray[np.float32], name: str, count: int) -> list[int]:
        """Return the labelled items nearest to a direction that are not of the class."""
        order = np.argsort(-(self.items @ direction), kind="stable")
        wrong: list[int] = order[(self.labels[order] != name) & (self.labels[order] != "")][:count].tolist()
        return wrong


def measured(classes: Classes, rng: np.random.Generator) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield each query, with average precision and the share of the wrong class, over all classes and draws."""
    for name, text in zip(classes.names, classes.texts, strict=True):
        for item in rng.choice(np.flatnonzero(classes.labels == name), 5, replace=False).tolist():
            added = {"name": (text[None], NONE), "item": (NONE, classes.items[[item]])}
            added["name + item"] = text[None], classes.items[[item]]
            for asked, parts in added.items():
                words, images = (part.reshape(-1, len(text)) for part in parts)
                plain = combine(words, images, NONE.reshape(0, len(text)))
                wrong = classes.nearest_wrong(plain, name, 1)[0]
                about = name, [item, wrong], classes.labels[wrong]
                for share in SHARES:
                    weighed.SUBTRACTED = share
                    yield (
                        f"{asked} - {share} of its share",
                        classes.measure(combine(words, images, classes.items[[wrong]]), *about),
                    )
                for weight in FIXED:
                    yield (
                        f"{asked} - {weight} wrong",
                        classes.measure(unit(plain[None])[0] - weight * classes.items[wrong], *about),
                    )
            for weight in (0.25, 0.5, 1.0):
                weighed.IMAGE_WEIGHT = weight
                direction = combine(text[None], classes.items[[item]], NONE.reshape(0, len(text)))
                yield f"name + {weight} item", classes.measure(direction, name, [item], "")
            weighed.IMAGE_WEIGHT = 0.5


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog")
    classes = Classes(Catalog.open(parser.parse_args().catalog))
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for asked, values in measured(classes, np.random.default_rng(0)):
        found[asked].append(values)
    rows = [(asked, *(f"{mean:.3f}" for mean in np.mean(values, axis=0))) for asked, values in found.items()]
    print(f"{len(classes.names)} classes, {len(classes.items):,} items\n")
    print(markdown_table(("asked", "mAP", "wrong"), rows))


if __name__ == "__main__":
    main()
