"""A catalog of kinds within groups: what a broad idea and a narrow one are made of."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpubranches import Catalog, Session, VocabularyEmbedder
from gpubranches.ingestion import ingest

GROUPS, KINDS, EACH, BACKGROUND, D = 5, 6, 40, 600, 48
NAMES = [f"group {g}" for g in range(GROUPS)] + [f"kind {k}" for k in range(GROUPS * KINDS)]


def write_groups(folder, seed=0):
    """Ingest a catalog of `GROUPS` groups of `KINDS` kinds beside a background, with words for groups and kinds.

    Returns group and kind of each item, (n,) int64 each, -1 in the background, and the embedder.
    """
    rng = np.random.default_rng(seed)
    above = rng.standard_normal((GROUPS, D))
    centres = np.repeat(above, KINDS, axis=0) + 0.7 * rng.standard_normal((GROUPS * KINDS, D))
    kinds = rng.permutation(np.concatenate([np.repeat(np.arange(len(centres)), EACH), np.full(BACKGROUND, -1)]))
    groups = np.where(kinds < 0, -1, kinds // KINDS)
    images = rng.standard_normal((len(kinds), D))
    images[kinds >= 0] = centres[kinds[kinds >= 0]] + 0.4 * images[kinds >= 0]
    texts = np.concatenate([above, centres]) + 0.3 * rng.standard_normal((len(NAMES), D)) - 2.0
    for name in ("images/img_emb", "images/metadata"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "images/img_emb/img_emb_0.npy", _unit(images + 2.0).astype(np.float16))
    pq.write_table(pa.table({"grp": groups, "kind": kinds}), folder / "images/metadata/metadata_0.parquet")
    ingest([folder / "images"], folder / "catalog")
    return Catalog.open(folder / "catalog"), groups, kinds, VocabularyEmbedder(_unit(texts), NAMES)


def search_for(session: Session, right, shown, rounds, query=None, model="linear", where=None):
    """Mark what is shown and then what is suggested by the truth, `rounds` times 20; return the last ranking.

    right: (n,) bool, which items are right.
    """
    told = right[shown]
    session.mark(shown[told], +1)
    session.mark(shown[~told], -1)
    for left in range(rounds, -1, -1):
        ranking = session.refine(model, query=query, where=where)
        if left:
            suggested = session.suggest(20)
            for label, ids in ((+1, suggested[right[suggested]]), (-1, suggested[~right[suggested]])):
                if len(ids):
                    session.mark(ids, label, origin="suggestion")
    return ranking


def f1(ranking, right):
    found = ranking.ids[ranking.matched]
    return 2 * right[found].sum() / max(1, len(found) + right.sum())


def _unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
