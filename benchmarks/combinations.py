"""What several terms find: mean average precision of the classes' names, with items added and subtracted.

    gpubranches ingest $DATA/caltech101 $DATA/pets_dtd $DATA/distractors --out catalog --embedder vocabulary:...
    python -m benchmarks.combinations catalog

Each class that has a text is asked for by its name, by five of its items one by one, and by both; the wrong item
nearest to what was asked is subtracted: by a share of what the query has along it, or with a fixed weight. Items named
in a query count nowhere. "wrong" is the share of the first R items, R the size of the class, that are of the subtracted
item's class.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpubranches import Catalog
from gpubranches.encoders import VocabularyEmbedder, open_embedder
from gpubranches.retrieval import queries as weighed
from gpubranches.retrieval.queries import combine, unit

SHARES = (0.0, 0.25, 0.5, 1.0)
FIXED = (0.1, 0.25, 0.5)
NONE = np.zeros((0, 0), np.float32)


class World:
    """Unit rows of a labelled catalog's items and of the names of its classes, each centred on the mean of its kind."""

    def __init__(self, catalog: Catalog):
        embedder = open_embedder(catalog.embedder)
        assert isinstance(embedder, VocabularyEmbedder)  # nosec B101  # what this benchmark is about
        ids = np.arange(catalog.next_id)
        self.labels = np.array([str(row.get("caption") or "") for row in catalog.items(ids)])
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
        return order[(self.labels[order] != name) & (self.labels[order] != "")][:count].tolist()


def measured(world: World, rng: np.random.Generator) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield what was asked, and average precision and share of the wrong class, over all classes and draws."""
    for name, text in zip(world.names, world.texts, strict=True):
        for item in rng.choice(np.flatnonzero(world.labels == name), 5, replace=False).tolist():
            added = {"name": (text[None], NONE), "item": (NONE, world.items[[item]])}
            added["name + item"] = text[None], world.items[[item]]
            for asked, parts in added.items():
                words, images = (part.reshape(-1, len(text)) for part in parts)
                plain = combine(words, images, NONE.reshape(0, len(text)))
                wrong = world.nearest_wrong(plain, name, 1)[0]
                about = name, [item, wrong], world.labels[wrong]
                for share in SHARES:
                    weighed.SUBTRACTED = share
                    yield (
                        f"{asked} - {share} of its share",
                        world.measure(combine(words, images, world.items[[wrong]]), *about),
                    )
                for weight in FIXED:
                    yield (
                        f"{asked} - {weight} wrong",
                        world.measure(unit(plain[None])[0] - weight * world.items[wrong], *about),
                    )
            for weight in (0.25, 0.5, 1.0):
                weighed.IMAGE_WEIGHT = weight
                direction = combine(text[None], world.items[[item]], NONE.reshape(0, len(text)))
                yield f"name + {weight} item", world.measure(direction, name, [item], "")
            weighed.IMAGE_WEIGHT = 0.5


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog")
    world = World(Catalog.open(parser.parse_args().catalog))
    rows: dict[str, list[tuple[float, float]]] = {}
    for asked, values in measured(world, np.random.default_rng(0)):
        rows.setdefault(asked, []).append(values)
    print(f"{len(world.names)} classes, {len(world.items):,} items\n\n| asked | mAP | wrong |\n|---|---|---|")
    for asked, pairs in rows.items():
        precision, wrong = np.mean(pairs, axis=0)
        print(f"| {asked} | {precision:.3f} | {wrong:.3f} |")


if __name__ == "__main__":
    main()
