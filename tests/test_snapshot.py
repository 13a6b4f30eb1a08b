"""Every call reads one snapshot: threads that read a catalog while another commits never see two in one call."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cudasim import SimulatedDevice
from test_catalog import make, make_append
from worlds import empty

from gpubranches import Box, Boxes, Catalog, open_backend
from gpubranches.engines.gpu import GpuBackend
from gpubranches.errors import ArrayError
from gpubranches.ingestion import append
from gpubranches.ingestion.encode import encode

BASE, D = 900, 32
"""Items that no writer deletes, and dims of their embeddings: codes have as many with the head `none`, else 8."""

IDS = np.arange(BASE)
MODEL = Boxes([Box(np.array([1, 5], np.int16), np.array([60, 60], np.uint8), np.array([200, 200], np.uint8))])


def unit(n, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


class Reader(threading.Thread):
    """Calls everything, again and again; answers that depend on the codes are kept in `told`, and judged at the end."""

    def __init__(self, catalog, backend, stop, seed):
        super().__init__()
        self.catalog, self.backend, self.stop, self.seed = catalog, backend, stop, seed
        self.told, self.failure = [], None
        self.embeddings = catalog.embeddings(IDS)

    def run(self):
        rng = np.random.default_rng(self.seed)
        try:
            while not self.stop.is_set():
                if self.seed % 2:
                    self.catalog.refresh()
                self.ask(np.sort(rng.choice(BASE, 200, replace=False)), rng)
        except BaseException as error:
            self.failure = error
            self.stop.set()

    def ask(self, some, rng):
        catalog, backend, one = self.catalog, self.backend, int(some[0])
        self.told.append((some, catalog.codes(some), backend.apply(MODEL).ids))
        assert np.array_equal(catalog.embeddings(some), self.embeddings[some])
        centred = self.embeddings[[one]] - catalog.signs.mean_
        assert backend.search(centred, 1, tier="embeddings").ids[0, 0] == one
        assert len(np.unique(catalog.sample_ids(50, rng))) == 50
        assert catalog.info()["segments"] >= 1
        assert [item["label"] for item in catalog.items(some)] == some.tolist()
        assert np.bitwise_count(catalog.where(f"label < {one}")).sum() == one
        with catalog.pinned():
            codes, where = catalog.codes(some), np.zeros(catalog.n_positions // 8, np.uint8)
            positions = catalog.positions(some)
            np.bitwise_or.at(where, positions // 8, np.left_shift(1, positions % 8).astype(np.uint8))
            found = backend.apply(MODEL, where=where)
            assert sorted(found.ids.tolist()) == some[MODEL.votes(codes) > 0].tolist()
            assert catalog.count(where) == len(some)
            assert catalog.inside(some, where).all()
            labelled = catalog.where("label >= 300")
            assert catalog.inside(some, labelled).tolist() == (some >= 300).tolist()
            assert (catalog.sample_ids(9, rng, labelled) >= 300).all()
            assert np.isin(backend.apply(MODEL, where=labelled).ids, np.arange(300, BASE)).all()


def commit(catalog, path, more, turn):
    """Encode, append, delete and compact, by the object that is read or by another one."""
    encode(path, head=("none", "pca")[turn % 2], d=8)
    truth = Catalog.open(path).codes(IDS)
    catalog.refresh()
    np.save(more, unit(150, seed=turn + 2))
    append(path, [more])
    own = catalog if turn % 2 else Catalog.open(path)
    own.refresh()
    own.delete(np.arange(own.next_id - 40, own.next_id))
    if turn % 3 == 2:
        own.compact()
    catalog.refresh()
    return truth


def race(name, folder, rounds=6):
    """Read by four threads, two of which refresh, while a fifth commits; return how many answers were judged."""
    catalog = Catalog.from_embeddings(folder / "c", unit(BASE), metadata={"label": IDS}, head="pca", d=8)
    stop = threading.Event()
    backend = GpuBackend(catalog, SimulatedDevice) if name == "gpu" else open_backend(name, catalog)
    readers, truth = [Reader(catalog, backend, stop, seed) for seed in range(4)], [catalog.codes(IDS)]
    for reader in readers:
        reader.start()
    for turn in range(rounds):
        if not stop.is_set():
            truth.append(commit(catalog, folder / "c", folder / f"more-{turn}.npy", turn))
    stop.set()
    for reader in readers:
        reader.join()
    backend.close()
    for reader in readers:
        if reader.failure is not None:
            raise reader.failure
    inside = [np.flatnonzero(MODEL.votes(codes)).tolist() for codes in truth]
    for some, codes, found in (one for reader in readers for one in reader.told):
        assert any(np.array_equal(codes, own[some]) for own in truth), "codes: of no one snapshot"
        assert sorted(found[found < BASE].tolist()) in inside, "apply: boxes of no one snapshot"
    assert len(set(map(tuple, inside))) > 2
    assert catalog.verify() == []
    return sum(len(reader.told) for reader in readers)


@pytest.mark.parametrize("name", ["oracle", "cpu", "gpu"])
def test_no_call_mixes_two_snapshots(name, tmp_path):
    """In a process of its own, since what goes wrong here may end it."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_snapshot import race
print("checked", race({name!r}, Path({str(tmp_path)!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split("checked")[1]) >= 4


def test_a_pinned_thread_keeps_its_snapshot_and_others_do_not(tmp_path):
    catalog, _ = make(tmp_path / "c", [50])
    seen = []
    with catalog.pinned() as snapshot:
        Catalog.open(tmp_path / "c").delete([0])
        assert catalog.refresh()
        other = threading.Thread(target=lambda: seen.append(catalog.n))
        other.start()
        other.join()
        assert (catalog.n, seen, catalog.generation) == (50, [49], snapshot.generation)
        assert len(catalog.codes([0])) == 1
        with catalog.pinned():
            assert catalog.n == 50
        catalog.delete([2])  # a writer starts from what is committed
        assert catalog.n == 50
    assert catalog.n == 48


def test_threads_that_write_by_one_object_take_turns(tmp_path):
    catalog, _ = make(tmp_path / "c", [200], items=False)
    failures = []

    def delete(first):
        try:
            for i in range(first, first + 60, 2):
                assert catalog.delete([i]) == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=delete, args=(first,)) for first in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (catalog.n, catalog.generation) == (80, 121)
    assert Catalog.open(tmp_path / "c").n == 80


def test_a_refresh_never_goes_back(tmp_path, monkeypatch):
    """A thread that read the manifest before a commit of this object swaps in nothing older after it."""
    from gpubranches.catalog import reader as module

    catalog, _ = make(tmp_path / "c", [20], items=False)
    read, begun, committed = module.read_manifest, threading.Event(), threading.Event()
    Catalog.open(tmp_path / "c").delete([0])

    def slow(folder):
        manifest = read(folder)
        if threading.current_thread() is late:
            begun.set()
            committed.wait(0.3)
        return manifest

    monkeypatch.setattr(module, "read_manifest", slow)
    late = threading.Thread(target=catalog.refresh)
    late.start()
    begun.wait()
    catalog.delete([2])
    committed.set()
    late.join()
    assert (catalog.n, catalog.generation) == (18, 3)


def test_what_is_mapped_is_kept_by_a_commit_that_leaves_it_alone(tmp_path):
    catalog, _ = make(tmp_path / "c", [300, 20], items=False)
    kept = catalog.segments
    codes = kept[0].codes
    catalog.delete([0])
    make_append(catalog, 3, catalog.next_id)
    assert catalog.segments[:2] == kept
    assert catalog.segments[0].codes is codes


@pytest.mark.parametrize("name", ["oracle", "cpu"])
@pytest.mark.parametrize("moves", ["compact", "append"])
def test_a_bitmap_of_rows_that_lie_elsewhere_now_is_refused(tmp_path, name, moves):
    catalog, _ = make(tmp_path / "c", [300, 300])
    catalog.delete([0])
    backend = open_backend(name, catalog)
    where, everything = catalog.where("id < 100"), Boxes([Box(*empty())])
    asks = [
        catalog.count,
        lambda w: catalog.inside([2], w),
        lambda w: catalog.sample_ids(1, np.random.default_rng(0), w),
        lambda w: backend.apply(everything, where=w),
        lambda w: backend.search(np.zeros((1, 8), np.uint8), 3, tier="codes", where=w & ~np.zeros_like(w)),
    ]
    catalog.delete([2])  # moves nothing
    assert catalog.count(where) == 48
    with catalog.pinned():
        other = Catalog.open(tmp_path / "c")
        if moves == "compact":
            other.compact()
        else:
            make_append(other, 5000, other.next_id)
        catalog.refresh()
        assert len(backend.apply(everything, where=where).ids) == 48
    asks[1] = lambda w: catalog.inside([4], w)
    for ask in asks:
        with pytest.raises(ArrayError, match="where"):
            ask(where)


def test_a_snapshot_stays_as_it_is(tmp_path):
    catalog, _ = make(tmp_path / "c", [60])
    before, codes = catalog.snapshot, catalog.codes(np.arange(0, 60, 2))
    assert catalog.snapshot is before
    with pytest.raises(AttributeError):
        before.segments = ()
    catalog.delete([0])
    catalog.compact()
    assert catalog.snapshot is not before
    assert (before.n, catalog.n) == (60, 59)
    assert np.array_equal(before.codes(np.arange(0, 60, 2)), codes)
