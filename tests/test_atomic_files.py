"""Files and folders that appear whole: what a killed process leaves is removed, what a live one writes is not."""

import errno
import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults import Faults

from gpubranches import Catalog, open_backend
from gpubranches.app import create_app
from gpubranches.core.files import atomic_file, atomic_folder, make_folder, new_file
from gpubranches.errors import DataError, UnavailableError
from gpubranches.ingestion import ingest
from gpubranches.ingestion.writers import write_clip_retrieval
from gpubranches.service import database
from gpubranches.service.database import Database
from gpubranches.service.labels import Labels
from gpubranches.service.session_store import SessionStore

WAITING = """
import sys, pathlib
from gpubranches.core.files import {what}
with {what}(pathlib.Path(sys.argv[1])) as made:
    {fill}
    print("writes", flush=True)
    sys.stdin.readline()
"""
FILL = {"atomic_file": "made.write(b'half')", "atomic_folder": "(made / 'half').write_bytes(b'half')"}


@pytest.fixture
def writer(tmp_path):
    """Start processes that write half of something."""
    started = []

    def start(what):
        code = WAITING.format(what=what, fill=FILL[what])
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "out")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "writes\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def write(what, path):
    with {"atomic_file": atomic_file, "atomic_folder": atomic_folder}[what](path) as made:
        made.write(b"whole") if what == "atomic_file" else (made / "whole").write_bytes(b"whole")


@pytest.mark.parametrize("what", FILL)
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, writer, what):
    process = writer(what)
    process.kill()
    process.wait()
    assert len(list(tmp_path.glob(".out.*.partial"))) == 1
    other = tmp_path / ".out.2.0123456789ab.partial"  # of a file called out.2
    other.write_bytes(b"")
    write(what, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", other.name}


@pytest.mark.parametrize("what", FILL)
def test_what_another_process_writes_is_left_alone(tmp_path, writer, what):
    process = writer(what)
    if what == "atomic_file":
        write(what, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"whole"
    else:
        (tmp_path / "out").mkdir()
        with suppress(DataError):
            write(what, tmp_path / "out")
        (tmp_path / "out/whole").unlink(missing_ok=True)
    assert len(list(tmp_path.glob(".out.*.partial"))) == 1
    process.communicate("\n", timeout=30)
    assert process.returncode == 0
    assert list(tmp_path.glob(".out.*.partial")) == []
    half = tmp_path / "out" if what == "atomic_file" else tmp_path / "out/half"
    assert half.read_bytes() == b"half"


def test_a_long_name_has_room_for_what_is_written_beside_it(tmp_path):
    path = tmp_path / ("n" * 220 + ".csv")
    write("atomic_file", path)
    assert path.read_bytes() == b"whole"


def test_a_new_file_never_takes_the_place_of_another(tmp_path, monkeypatch):
    path, real = tmp_path / "file", os.link

    def other_first(old, new, **options):
        path.write_bytes(b"another's")
        return real(old, new, **options)

    monkeypatch.setattr("os.link", other_first)
    new_file(path, b"mine")
    assert path.read_bytes() == b"another's"
    new_file(path, b"mine again")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_new_file_is_made_again_where_its_beginning_was_taken_away(tmp_path, monkeypatch):
    path, real, calls = tmp_path / "file", os.link, []

    def once_gone(old, new, **options):
        calls.append(old)
        if len(calls) == 1:
            os.unlink(old)
        return real(old, new, **options)

    monkeypatch.setattr("os.link", once_gone)
    new_file(path, b"mine")
    assert (path.read_bytes(), len(calls)) == (b"mine", 2)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_new_file_is_made_on_file_systems_without_links(tmp_path, monkeypatch, number):
    def link(old, new, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.link", link)
    new_file(tmp_path / "file", b"mine")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"mine")]


def test_every_folder_that_is_made_is_synced_into_the_one_above(tmp_path):
    with Faults(tmp_path).on() as faults:
        make_folder(tmp_path / "a/b/c")
        make_folder(tmp_path / "a/b/c")
    synced = [path for name, path in faults.calls if name == "fsync"]
    assert synced == [str(tmp_path), f"{tmp_path}/a", f"{tmp_path}/a/b", f"{tmp_path}/a/b"]
    with pytest.raises(OSError, match="dangling"):
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        make_folder(tmp_path / "dangling")


def write_input(folder, n=30):
    folder.mkdir()
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir()
    np.save(folder / "img_emb/img_emb_0.npy", np.random.default_rng(0).standard_normal((n, 16)).astype(np.float32))
    pq.write_table(pa.table({"caption": [f"row {i}" for i in range(n)]}), folder / "metadata/metadata_0.parquet")
    return folder


@pytest.fixture
def catalog(tmp_path):
    ingest([write_input(tmp_path / "in")], tmp_path / "c", d=8)
    return Catalog.open(tmp_path / "c")


def test_all_folders_of_an_export_are_synced(tmp_path, catalog):
    with Faults(tmp_path).on() as faults:
        write_clip_retrieval(tmp_path / "out", catalog, np.arange(10))
    synced = [path.rsplit("/", 1)[-1] for name, path in faults.calls if name == "fsync"]
    renamed = next(i for i, (name, path) in enumerate(faults.calls) if name in ("replace", "rename"))
    before = [path.rsplit("/", 1)[-1] for name, path in faults.calls[:renamed] if name == "fsync"]
    assert {"img_emb", "metadata", "img_emb_0.npy", "metadata_0.parquet"} <= set(before)
    assert synced[-1] == tmp_path.name


def test_the_folder_of_segments_has_its_name_before_a_segment_is_committed(tmp_path):
    with Faults(tmp_path).on() as faults:
        ingest([write_input(tmp_path / "in")], tmp_path / "new/c", d=8)
    calls = [(name, path.removeprefix(f"{tmp_path}/")) for name, path in faults.calls]
    made = calls.index(("mkdir", "new/c/segments"))
    assert calls[made + 1] == ("fsync", "new/c")
    assert calls[calls.index(("mkdir", "new")) + 1] == ("fsync", str(tmp_path))
    assert calls[calls.index(("mkdir", "new/c")) + 1] == ("fsync", "new")


def test_what_was_stopped_before_its_first_rows_is_removed_for_good_before_it_is_begun_anew(tmp_path, monkeypatch):
    def stop(*arguments):
        raise DataError("stopped")

    with monkeypatch.context() as patched, pytest.raises(DataError, match="stopped"):
        patched.setattr("gpubranches.ingestion.build._append_rows", stop)
        ingest([write_input(tmp_path / "in")], tmp_path / "c", d=8)
    np.save(tmp_path / "other.npy", np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32))
    with Faults(tmp_path / "c").on() as faults:
        ingest([tmp_path / "other.npy"], tmp_path / "c", d=8)
    calls = [(name, path.removeprefix(f"{tmp_path}/")) for name, path in faults.calls]
    removed = calls.index(("unlink", "c/manifest.json"))
    assert calls[removed + 1] == ("fsync", "c")
    assert Catalog.open(tmp_path / "c").n == 20


# The file of the marks

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x)"


def test_the_file_of_the_marks_is_made_whole(tmp_path):
    """Killed or refused at any call, there is none, or one with its tables."""
    path = tmp_path / "labels.sqlite"
    with Faults(tmp_path).on() as faults:
        SessionStore.open(path).close()
    points = [i for i, (name, file) in enumerate(faults.calls) if "partial" in file or file == str(tmp_path)]
    assert len(points) > 4
    for at in points:
        path.unlink(missing_ok=True)
        with Faults(tmp_path, at, "ENOSPC").on():
            told = ""
            try:
                SessionStore.open(path).close()
            except UnavailableError as error:
                told = str(error)
        assert "labels.sqlite" in told or not told
        assert "\n" not in told
        assert database.problems(path) == []
        with closing(Labels.open(path, "one")) as labels:
            labels.mark([1], +1)
        assert [each.name for each in tmp_path.glob(".*")] == []
        assert database.problems(path) == []
        path.unlink()


def test_a_file_of_marks_without_tables_of_before_gets_them(tmp_path):
    (tmp_path / "labels.sqlite").write_bytes(b"")
    with closing(Labels.open(tmp_path / "labels.sqlite", "one")) as labels:
        labels.mark([1], +1)
        assert labels.current() == {1: 1}


def test_a_transaction_within_another_is_part_of_it(tmp_path):
    for path in (tmp_path / "a.sqlite", ":memory:"):
        store = Database.open(path, SCHEMA, "numbers")
        with pytest.raises(RuntimeError, match="stop"), store.writing() as outer:
            outer.execute("INSERT INTO t VALUES (1)")
            with store.writing() as inner:
                assert inner is outer
                inner.execute("INSERT INTO t VALUES (2)")
            raise RuntimeError("stop")
        with store.writing() as outer, store.writing():
            outer.execute("INSERT INTO t VALUES (3)")
        with store.reading() as connection:
            assert connection.execute("SELECT x FROM t").fetchall() == [(3,)]
        store.close()


def test_an_import_that_fails_half_way_leaves_nothing(catalog, monkeypatch):
    with open_backend("oracle", catalog) as backend:
        app = create_app(catalog, backend)
        client, store = app.test_client(), app.extensions["gpubranches"].service.sessions.store
        marks = [{"id": item, "label": 1, "origin": "user"} for item in range(5)]
        file = {"format": "gpubranches-session", "version": 1, "name": "brought", "asked": "", "query": "", "seed": 5,
                "model": "ensemble", "second_stage": None, "lean": 0.0, "marks": marks, "pictures": []}  # fmt: skip

        def bring():
            sent = {"file": (io.BytesIO(json.dumps(file).encode()), "session.json")}
            return client.post("/sessions/import", data=sent, headers={"HX-Request": "true"}).status_code

        def fail(*arguments, **settings):
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(SessionStore, "update", fail)
            assert bring() == 500
        assert store.records() == []
        assert bring() == 204
        assert [(record.name, record.positive) for record in store.records()] == [("brought", 5)]
        app.extensions["gpubranches"].service.close()
