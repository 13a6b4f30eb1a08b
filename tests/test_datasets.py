import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpubranches.errors import CatalogFormatError, DataError, UsageError
from gpubranches.ingestion.clip_retrieval import ClipRetrieval
from gpubranches.ingestion.combined_sources import JoinedSources
from gpubranches.ingestion.datasets import open_dataset
from gpubranches.ingestion.writers import write_clip_retrieval, write_u8bin


class Rows:
    d, D = 4, 8

    def __init__(self, n=10):
        rng = np.random.default_rng(0)
        self.stored = rng.integers(0, 256, (n, 4)).astype(np.uint8)
        self.vectors = rng.standard_normal((n, 8)).astype(np.float16)

    def codes(self, ids):
        return self.stored[ids]

    def embeddings(self, ids):
        return self.vectors[ids].astype(np.float32)

    def items(self, ids):
        return [{"id": int(i), "caption": f"c{i}"} for i in ids]


def test_what_is_written_is_read_back(tmp_path):
    rows, ids = Rows(), np.arange(10)
    write_u8bin(tmp_path / "x.u8bin", rows, ids)
    codes = open_dataset(tmp_path / "x.u8bin")
    assert (codes.kind, codes.n, codes.dim) == ("codes", 10, 4)
    assert np.array_equal(codes.take(ids), rows.stored)
    write_clip_retrieval(tmp_path / "c", rows, ids, partition=4)
    again = open_dataset(tmp_path / "c")
    assert (again.kind, again.n, again.dim) == ("embeddings", 10, 8)
    assert np.array_equal(again.take(np.array([9, 0, 5])), rows.vectors[[9, 0, 5]].astype(np.float32))
    assert again.items(3, 6)["caption"].to_pylist() == ["c3", "c4", "c5"]
    with pytest.raises(UsageError, match="empty or new folder"):
        write_clip_retrieval(tmp_path / "c", rows, ids)
    with pytest.raises(DataError, match="cannot write"):
        write_u8bin(tmp_path / "no" / "x.u8bin", rows, ids)


@pytest.mark.parametrize("name", ["x.npy", "X.NPY", "x.fbin", "X.FBIN", "x.u8bin", "X.U8BIN"])
def test_an_array_is_read_by_an_ending_of_any_case(tmp_path, name):
    rows = Rows().stored if "u8" in name.lower() else Rows().vectors.astype(np.float32)
    with (tmp_path / name).open("wb") as file:
        if name.lower() == "x.npy":
            np.save(file, rows)
        else:
            file.write(np.array(rows.shape, np.uint32).tobytes() + rows.tobytes())
    assert np.array_equal(open_dataset(tmp_path / name).take(np.arange(10)), rows)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", "<f4", "u1"])
@pytest.mark.parametrize("order", "CF")
def test_an_array_is_read_in_any_order_of_bytes_and_axes(tmp_path, dtype, order):
    rows = Rows().stored.astype(np.float32)
    np.save(tmp_path / "x.npy", np.array(rows, dtype, order=order))
    taken = open_dataset(tmp_path / "x.npy").take(np.array([7, 2]))
    assert taken.dtype.isnative
    assert np.array_equal(taken, rows[[7, 2]])


def test_partitions_are_in_numeric_order(tmp_path):
    for name in ("img_emb", "metadata"):
        (tmp_path / name).mkdir()
    for number in (0, 2, 10):
        np.save(tmp_path / f"img_emb/img_emb_{number}.npy", np.full((1, 4), number, np.float32))
    source = ClipRetrieval(tmp_path)
    assert source.take(np.arange(3))[:, 0].tolist() == [0, 2, 10]
    assert source.items(0, 3) is None
    pq.write_table(pa.table({"caption": ["ten"]}), tmp_path / "metadata/metadata_10.parquet")
    assert ClipRetrieval(tmp_path).items(0, 3)["caption"].to_pylist() == [None, None, "ten"]
    np.save(tmp_path / "img_emb/img_emb_11.npy", np.zeros((1, 5), np.float32))
    with pytest.raises(CatalogFormatError, match="img_emb_11"):
        ClipRetrieval(tmp_path)


def test_joined_sources_run_on(tmp_path):
    for number in (0, 1):
        np.save(tmp_path / f"{number}.npy", np.full((3, 4), number, np.float16))
    one, two = (open_dataset(tmp_path / f"{number}.npy") for number in (0, 1))
    joined = JoinedSources([one, two], ["a", "b"])
    assert joined.take(np.array([5, 0]))[:, 0].tolist() == [1, 0]
    assert joined.items(2, 4)["input"].to_pylist() == ["a", "b"]
