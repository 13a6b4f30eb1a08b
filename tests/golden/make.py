"""Make the golden catalog of format version 1. Run once for a format version; the result is never changed."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from gpubranches import Catalog
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer


def make(path: Path) -> None:
    """Write a catalog of 2 segments, with metadata, one deleted and one broken item."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((150, 40)).astype(np.float16)
    codes = rng.integers(0, 256, (150, 8)).astype(np.uint8)
    signs = SignQuantizer().fit(vectors.astype(np.float32))
    catalog = Catalog.create(
        path,
        space=EmbeddingSpace(embedder="golden", head="h", quantizer="q", means="m"),
        d=8,
        signs=signs,
        scalar=ScalarQuantizer(low=-1, high=1).fit(vectors[:, :8].astype(np.float32)),
        text_mean=np.ones(40, np.float32),
        embedder="demo",
        source={"note": "golden"},
    )
    bits, scales = signs.encode(vectors.astype(np.float32))
    for part in (slice(0, 140), slice(140, 150)):
        ids = np.arange(part.start, part.stop)
        columns = {"name": [f"item {i}" for i in ids]}
        if part.start:
            columns["price"] = [i / 10 for i in ids]
        last = part.start > 0
        errors = pa.table({"id": [150], "path": ["broken.jpg"], "reason": ["the file is empty"]}) if last else None
        catalog.append(
            codes[part],
            ids=ids,
            bits=bits[part],
            scales=scales[part],
            embeddings=vectors[part].__getitem__,
            items=pa.table(columns),
            errors=errors,
            next_id=153 if last else None,
        )
    catalog.delete([77])
    (path / "lock").unlink()


if __name__ == "__main__":
    make(Path(__file__).with_name("catalog-1"))
