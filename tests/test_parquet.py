"""Arrow reads a file of Python in the thread of the caller, and holds it no longer than the call."""

import io
import threading
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpubranches import Catalog
from gpubranches.catalog.blocks import Reader
from gpubranches.catalog.metadata.tables import ParquetFile, read_parquet

READS = {
    "read": lambda file: file.read(),
    "read_row_groups": lambda file: file.read_row_groups([1, 3]),
    "iter_batches": lambda file: list(file.iter_batches(70)),
    "iter_batches, some": lambda file: next(file.iter_batches(70)),
}


class Source(io.FileIO):
    """A file that records which threads read it."""

    def __init__(self, path):
        super().__init__(path)
        self.threads = set()

    def read(self, size=-1):
        self.threads.add(threading.get_ident())
        return super().read(size)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "t.parquet"
    pq.write_table(pa.table({name: np.arange(400) for name in "abcdefgh"}), path, row_group_size=100)
    return path


@pytest.mark.parametrize("name", [*READS, "read_parquet"])
def test_a_source_is_read_by_the_caller_and_released_with_the_call(name, path):
    for _ in range(30):
        source = Source(path)
        released, threads = weakref.ref(source), source.threads
        if name == "read_parquet":
            read_parquet(pa.PythonFile(source, "r"))
        else:
            with ParquetFile(source) as file:
                READS[name](file)
            del file
        source.close()
        del source
        assert released() is None
        assert threads == {threading.get_ident()}


def test_metadata_of_a_catalog_are_read_by_the_caller(tmp_path, monkeypatch):
    """The checks of blocks run in Python, so a thread of Arrow that reads would need the interpreter."""
    threads, read = set(), Reader.readinto

    def recorded(self, buffer):
        threads.add(threading.get_ident())
        return read(self, buffer)

    monkeypatch.setattr(Reader, "readinto", recorded)
    embeddings = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    catalog = Catalog.from_embeddings(tmp_path / "c", embeddings, metadata={"label": np.arange(50)}, d=4)
    assert [item["label"] for item in catalog.items([3, 7])] == [3, 7]
    assert len(catalog.item_table([1, 2], catalog.item_schema())) == 2
    assert threads == {threading.get_ident()}
