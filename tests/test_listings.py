"""A list of inputs that is none, under a checksum that fits, is told by verify and given up by repair."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpubranches import Catalog
from gpubranches.catalog import manifest as manifests
from gpubranches.catalog import problems_at, repair
from gpubranches.catalog.listings import listing_schema
from gpubranches.errors import CatalogFormatError
from gpubranches.ingestion import append, ingest

NAME = "inputs-0.parquet"


@pytest.fixture
def catalog(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("in", "more"):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((30, 16)).astype(np.float32))
    ingest([tmp_path / "in.npy"], tmp_path / "c", d=8)
    return tmp_path / "c"


def parquet(**changed):
    columns = {"place": ["/a"], "beside": [False], "size": [1], "mtime_ns": [1], "ctime_ns": [1], "digest": [bytes(16)],
               "first": [0], "start": [0], "rows": [30]} | changed  # fmt: skip
    out = io.BytesIO()
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), out)
    return out.getvalue()


FORGED = {
    "nothing": b"",
    "no parquet": b"PAR1 and something else",
    "another column": parquet(place=None, path=["/a"]),
    "a column less": parquet(rows=None),
    "another kind": parquet(size=["x"]),
    "a value missing": parquet(size=[None]),
    "a digest of another length": parquet(digest=[b"123"]),
    "a first row that is beside none": parquet(beside=[True]),
}


def forge(path, content):
    (path / NAME).write_bytes(content)
    manifest = manifests.read_manifest(path)
    manifest["files"][NAME] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifests.write_manifest(path, manifest)


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_listing_is_told_refused_and_given_up(catalog, tmp_path, how):
    forge(catalog, FORGED[how])
    (problem,) = problems_at(catalog)
    assert NAME in problem
    assert "\n" not in problem
    for change in (
        lambda: append(catalog, [tmp_path / "more.npy"]),
        lambda: ingest([tmp_path / "in.npy"], catalog, d=8),
    ):
        with pytest.raises(CatalogFormatError, match=r"inputs-0\.parquet.*verify.*--repair"):
            change()
    before = Catalog.open(catalog)
    (told,) = repair(catalog)
    assert told.startswith(f"{NAME}: the record of which files the ids from 0 on came from")
    assert problems_at(catalog) == []
    after = Catalog.open(catalog)
    assert np.array_equal(after.embeddings(np.arange(30)), before.embeddings(np.arange(30)))
    assert append(catalog, [tmp_path / "more.npy"]).added == 30


def test_a_sound_listing_is_left(catalog):
    forge(catalog, parquet())
    assert problems_at(catalog) == []
    assert repair(catalog) == []
    assert Catalog.open(catalog).listing(NAME).schema == listing_schema()
