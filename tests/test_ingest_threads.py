"""Ingest uses all cores, and writes the same bytes with any number of them."""

import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ingest import vectors

from benchmarks.ingest import plain_unit_rows
from gpubranches import Catalog
from gpubranches.catalog import catalog as catalog_module
from gpubranches.catalog import codec as codec_module
from gpubranches.catalog import segment, segment_rows, tiles
from gpubranches.core import files
from gpubranches.core.threads import map_ahead, one_ahead
from gpubranches.errors import DataError


def plain_order(codes, order=None):
    """The definition of `kd_order`, by recursion."""
    order = np.arange(len(codes)) if order is None else order
    if len(order) <= tiles.ZONE:
        return order
    sample = codes[order[:: max(1, len(order) // 4096)]].astype(np.float32)
    order = order[np.argsort(codes[order, sample.var(axis=0).argmax()], kind="stable")]
    middle = max(tiles.ZONE, round(len(order) / 2 / tiles.ZONE) * tiles.ZONE)
    return np.concatenate([plain_order(codes, order[:middle]), plain_order(codes, order[middle:])])


@given(n=st.integers(0, 3000), levels=st.sampled_from([1, 2, 256]), threads=st.integers(1, 4), seed=st.integers(0, 99))
def test_rows_are_in_the_same_order_with_any_number_of_threads(n, levels, threads, seed):
    codes = np.random.default_rng(seed).integers(0, levels, (n, 4)).astype(np.uint8)
    least, tiles._LEAST_ALONE = tiles._LEAST_ALONE, 256
    try:
        assert np.array_equal(tiles.kd_order(codes, threads), plain_order(codes))
    finally:
        tiles._LEAST_ALONE = least


def content(folder):
    return {str(path.relative_to(folder)).split("-")[0] + path.name: path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize("keep", [True, False])
def test_the_bytes_are_the_same_with_any_number_of_cores(tmp_path, monkeypatch, keep):
    """Also with several segments, of which one is encoded while another is written."""
    monkeypatch.setattr(catalog_module, "SEGMENT_ROWS", 9000)
    monkeypatch.setattr(files, "_LARGE_BYTES", 1 << 12)
    monkeypatch.setattr(tiles, "_LEAST_ALONE", 256)
    monkeypatch.setattr(segment_rows, "ENCODED_ROWS", 1000)
    rows = vectors(20_000)
    rows[76] = np.nan
    table = pa.table({"year": np.arange(20_000)})
    made = []
    for cores in (1, 4):
        for module in (segment, segment_rows):
            monkeypatch.setattr(module, "cores", lambda cores=cores: cores)
        catalog = Catalog.from_embeddings(tmp_path / f"c{cores}", rows, metadata=table, head="pca", d=8)
        if not keep:
            catalog.delete(np.arange(0, 20_000, 7))
            catalog.compact()
        assert catalog.verify() == []
        made.append({name: data for name, data in content(catalog.path).items() if "manifest" not in name})
    assert made[0].keys() == made[1].keys()
    assert made[0] == made[1]


@given(
    n=st.integers(0, 700),
    dims=st.integers(1, 67),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    seed=st.integers(0, 99),
)
def test_rows_are_scaled_in_blocks_as_if_whole(n, dims, dtype, seed):
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((n, dims)) * rng.choice([1e-9, 1, 1e4], (n, 1))).astype(dtype)
    if n > 9:
        rows[rng.integers(0, n, 3)] = [[0], [np.nan], [np.inf]]
    unit, bad = codec_module.unit_rows(rows)
    expected, bad_rows = plain_unit_rows(rows)
    assert np.array_equal(unit.view(np.uint16), expected.view(np.uint16))
    assert np.array_equal(bad, bad_rows)


def test_threads_that_encode_share_a_bound_of_memory(monkeypatch):
    monkeypatch.setattr(segment_rows, "cores", lambda: 64)
    assert [segment_rows._encoding_threads(dim) for dim in (8, 512, 2048, 10**6)] == [64, 12, 3, 1]


def test_results_are_in_order_and_little_ahead():
    begun, running, most = [], threading.Semaphore(0), []

    def work(item):
        begun.append(item)
        return item * item

    for number, found in enumerate(map_ahead(work, range(100), 3)):
        assert found == number * number
        most.append(len(begun) - number)
        running.release()
    assert max(most) <= 2 * 3 + 2
    assert list(map_ahead(work, range(5), 1)) == [0, 1, 4, 9, 16]
    begun.clear()
    for number, found in enumerate(one_ahead(work, range(20))):
        assert found == number * number
        assert len(begun) <= number + 2
    assert list(one_ahead(work, [])) == []


def test_an_error_of_a_thread_is_that_of_the_ingest(tmp_path, monkeypatch):
    """The segments before it are committed; no thread is left."""
    monkeypatch.setattr(catalog_module, "SEGMENT_ROWS", 100)
    before = threading.active_count()
    catalog = Catalog.from_embeddings(tmp_path / "c", vectors(50), d=8)

    class Source:
        kind, n, dim, roots = "embeddings", 450, 48, {}

        def take(self, rows):
            if rows[-1] > 250:
                raise DataError("the file ends here")
            return vectors(500)[rows]

        def items(self, start, stop):
            return None

        def reasons(self, start, stop):
            return None

    with pytest.raises(DataError, match="the file ends here"):
        catalog.append_source(Source(), first_id=50)
    assert catalog.n == 250
    assert catalog.verify() == []
    assert threading.active_count() == before
