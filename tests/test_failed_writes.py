"""What cannot be written is never committed: every writing call of every command fails in turn."""

import errno
import gc
import os
import shutil
import subprocess
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn import some
from faults import KINDS, Faults
from test_ingest import Pixels, vectors, write_pictures

from gpubranches import Catalog
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import Output, atomic_file, atomic_folder, output, write_npy
from gpubranches.engines.kdtree.build import build_index
from gpubranches.engines.kdtree.files import FOLDER, problems
from gpubranches.errors import DataError, GpuBranchesError
from gpubranches.ingestion import append, ingest
from gpubranches.ingestion.encode import encode


def write_input(folder, n, seed=0):
    """Write a clip-retrieval folder with captions and a row that is no embedding."""
    x = vectors(n, seed=seed)
    x[3] = np.nan
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "img_emb/img_emb_0.npy", x)
    pq.write_table(pa.table({"caption": [f"row {i}" for i in range(n)]}), folder / "metadata/metadata_0.parquet")
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_input(folder / "in", 300)
    write_input(folder / "more", 200, seed=1)
    write_pictures(folder / "pictures", 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 160)
        ingest([folder / "in"], folder / "made", d=8)
    Catalog.open(folder / "made").delete([0, 5, 170])
    return folder


COMMANDS = {
    "ingest": lambda folder, c: ingest([folder / "in"], c, d=8),
    "ingest pictures": lambda folder, c: ingest([folder / "pictures"], c, embedder=Pixels(), d=8),
    "append": lambda folder, c: append(c, [folder / "more"]),
    "compact": lambda folder, c: Catalog.open(c).compact(),
    "encode": lambda folder, c: encode(c, head="none"),
    "delete": lambda folder, c: Catalog.open(c).delete([7, 8]),
}


def content(path):
    """Return all that a catalog holds, or None where there is none."""
    if not (path / "manifest.json").exists():
        return None
    catalog = Catalog.open(path)
    assert catalog.verify() == []
    ids = catalog.sample_ids(catalog.n, np.random.default_rng(0))
    embeddings = catalog.embeddings(ids).tobytes() if len(ids) else b""
    parts = ids, catalog.codes(ids), embeddings, repr(catalog.items(ids)), repr(catalog.errors())
    return catalog.next_id, catalog.n, catalog.n_deleted, catalog.d, digest(*parts)


def run_at(world, path, command, at=-1, kind="EIO"):
    """Run a command on a fresh catalog with a call that fails; return the layer and the error, None for success."""
    shutil.rmtree(path, ignore_errors=True)
    if not command.startswith("ingest"):
        shutil.copytree(world / "made", path)
    faults, found = Faults(path, at, kind), None
    with faults.on():
        try:
            COMMANDS[command](world, path)
        except GpuBranchesError as error:
            found = error
    return faults, found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_write_that_fails_is_told_and_the_last_commit_stays_whole(world, tmp_path, command, monkeypatch):
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 160)
    path = tmp_path / "c"
    before = None if command.startswith("ingest") else content(world / "made")
    faults, error = run_at(world, path, command)
    assert error is None
    after = content(path)
    assert after != before
    points = len(faults.calls)
    assert points > (20 if command != "delete" else 9)
    failed = 0
    tried = some(range(points), 24)
    for number, at in enumerate(tried):
        kind = KINDS[number % len(KINDS)] if faults.calls[at][0] == "write" else KINDS[number % 3]
        stopped, error = run_at(world, path, command, at, kind)
        where = command, at, kind, *stopped.calls[at]
        assert stopped.calls[at][0] == faults.calls[at][0], where
        left = content(path)
        if error is None:  # a folder that is there, the lock, or what was to be cleared away
            assert left == after, where
            call, file = stopped.calls[at]
            cleared = call == "rename" and file.endswith("/staging")
            assert cleared or call in ("mkdir", "close", "unlink", "rmdir"), where
            assert not file.endswith((".u8", ".f16", ".parquet", ".npy", ".json.partial")), where
        else:
            failed += 1
            assert isinstance(error, DataError), where
            assert "\n" not in str(error), where
            if command.startswith("ingest") or command == "append":  # the segments that are whole stay
                assert left is None or (before or (0,))[0] <= left[0] <= after[0], where
            else:
                assert left in (before, after), where
                committed = [name for name, file in stopped.calls[:at] if file.endswith("manifest.json.partial")]
                assert left == before or "replace" in committed, where
        if left != after:
            COMMANDS[command](world, path)
            assert content(path) == after, where
    assert failed > len(tried) // 2


@pytest.mark.parametrize("at", ["first", "middle", "last"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bits.u8", "embeddings.f16", "items.parquet", "manifest.json.partial"])
def test_a_buffer_that_is_lost_is_never_committed(world, tmp_path, name, kind, at):
    """The last buffer of a file, which only its closing told of before, is one of many that are looked at."""
    faults, _ = run_at(world, tmp_path / "c", "compact")
    writes = [i for i, (call, path) in enumerate(faults.calls) if call == "write" and path.endswith(name)]
    chosen = {"first": writes[0], "middle": writes[len(writes) // 2], "last": writes[-1]}[at]
    _, error = run_at(world, tmp_path / "c", "compact", chosen, kind)
    assert isinstance(error, DataError)
    assert "cannot write" in str(error)
    assert name.removesuffix(".partial") in str(error)
    assert content(tmp_path / "c") == content(world / "made")
    assert len(list((tmp_path / "c/segments").iterdir())) == 2


def test_the_old_segments_go_only_after_the_new_commit_is_on_the_disk(world, tmp_path):
    faults, _ = run_at(world, tmp_path / "c", "compact")
    names = [(name, path.rsplit("/", 1)[-1]) for name, path in faults.calls]
    committed = names.index(("replace", "manifest.json.partial"))
    synced = [i for i, call in enumerate(names) if call == ("fsync", "c")]
    removed = [i for i, (name, _) in enumerate(names) if name in ("unlink", "rmdir")]
    assert committed < min(i for i in synced if i > committed) < min(removed)
    # A new segment's files, its folder and the folder of segments are synced before it is named.
    assert ("fsync", "segments") in names[:committed]
    segment = next(path.rsplit("/", 2)[-2] for _, path in faults.calls if path.endswith("bits.u8"))
    assert ("fsync", segment) in names[:committed]


def test_an_index_that_cannot_be_written_leaves_the_one_before(world, tmp_path):
    shutil.copytree(world / "made", tmp_path / "c")
    catalog = Catalog.open(tmp_path / "c")
    build_index(catalog, threads=1)
    with Faults(tmp_path).on() as faults:
        build_index(catalog, threads=1)
    points = [i for i, call in enumerate(faults.calls) if call[0] != "close"]
    for at in some(points, 20):
        kind = KINDS[at % len(KINDS)] if faults.calls[at][0] == "write" else KINDS[at % 3]
        with Faults(tmp_path, at, kind).on(), suppress(GpuBranchesError):
            build_index(catalog, threads=1)
        assert problems(tmp_path / "c" / FOLDER) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_that_cannot_be_written_leaves_the_file_before(tmp_path, kind):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def write():
        with atomic_file(target) as file:
            for _ in range(3):
                file.write(np.arange(1000))

    with Faults(tmp_path).on() as faults:
        write()
    assert len(target.read_bytes()) == 24_000
    for at in range(len(faults.calls)):
        if faults.calls[at][0] == "unlink" or (kind in ("short", "lost") and faults.calls[at][0] != "write"):
            continue
        target.write_bytes(b"old")
        with Faults(tmp_path, at, kind).on(), pytest.raises(DataError, match="cannot write"):
            write()
        whole = faults.calls[at] == ("fsync", str(tmp_path))  # it has its name, but may lose it again
        assert (len(target.read_bytes()) == 24_000) if whole else (target.read_bytes() == b"old")
        assert list(tmp_path.glob(".*")) == []


def test_an_array_is_written_as_numpy_writes_it(tmp_path):
    for array in (np.zeros((0, 5), np.float16), np.arange(12.0).reshape(3, 4).T, np.float32([[1, 2]])):
        with output(tmp_path / "one.npy") as file:
            write_npy(file, array)
        assert np.array_equal(np.load(tmp_path / "one.npy"), array)
        np.save(tmp_path / "other.npy", np.ascontiguousarray(array))
        assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "other.npy").read_bytes()


def test_an_output_says_which_file_could_not_be_written(tmp_path):
    handle = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    file = Output(tmp_path / "file", handle)
    os.close(handle)
    with pytest.raises(OSError, match="file") as caught:
        file.write(b"x")
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="file"):
        file.close()
    with pytest.raises(DataError, match="cannot write"), atomic_folder(tmp_path / "file" / "below"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO, errno.ENOTSUP])
def test_a_folder_that_cannot_be_locked_is_told_and_left_as_it_is(world, tmp_path, number, monkeypatch):
    shutil.copytree(world / "made", tmp_path / "c")

    def flock(handle, operation):
        raise OSError(number, os.strerror(number))

    catalog, before = Catalog.open(tmp_path / "c"), content(tmp_path / "c")
    monkeypatch.setattr("fcntl.flock", flock)
    for change in (catalog.compact, lambda: catalog.delete([7]), lambda: append(tmp_path / "c", [world / "more"])):
        with pytest.raises(DataError):
            change()
    monkeypatch.undo()
    assert content(tmp_path / "c") == before
    assert catalog.delete([7]) == 1


def test_a_reader_without_locks_reads(world, monkeypatch):
    def flock(handle, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    assert content(world / "made") is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize("kib", some(range(40, 400, 24), 5))
def test_a_small_disk_that_runs_full_keeps_the_last_commit(world, tmp_path, kib):
    """No fault layer here: a file system of a few blocks more than the catalog has."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copytree(world / "made", tmp_path / "c")
        before = content(tmp_path / "c")
        (tmp_path / "noise").write_bytes(bytes(shutil.disk_usage(tmp_path).free - kib * 1024))
        try:
            append(tmp_path / "c", [world / "more"])
        except DataError as error:
            assert "cannot write" in str(error)  # noqa: PT017
            assert content(tmp_path / "c") == before
        else:
            assert content(tmp_path / "c")[0] == 500
    finally:
        gc.collect()  # what an error was raised in holds files
        subprocess.run(["umount", str(tmp_path)], check=True)
