"""Inputs in stores, from their files to a search and a picture: in memory, on an S3 server here, and over http."""

import functools
import http.server
import itertools
import json
import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from forking import started
from input_files import (
    KINDS,
    encoded,
    hub_table,
    pictures,
    plain_tar,
    samples,
    two_tars,
    vectors,
    write_embeddings,
    write_tar,
)
from test_ingest import Pixels, same

from gpubranches import Catalog, Session, open_backend
from gpubranches.app import create_app
from gpubranches.catalog.pictures.decoding import open_image, upright_size
from gpubranches.catalog.pictures.image_files import picture_of
from gpubranches.catalog.pictures.parts import open_row
from gpubranches.cli import cli
from gpubranches.core import stores
from gpubranches.errors import (
    BackendUnavailableError,
    CatalogFormatError,
    CatalogNotFoundError,
    DataError,
    StoreError,
    UsageError,
)
from gpubranches.ingestion import append, build_catalog, ingest, relocate, staging, sync, watch

fsspec = pytest.importorskip("fsspec")
N = 14


@pytest.fixture
def memory():
    stores._filesystem_of.cache_clear()
    filesystem = stores._filesystem_of("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield filesystem
    filesystem.store.clear()


@pytest.fixture(scope="module")
def s3_server():
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-this-test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    stores._filesystem_of.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    filesystem = stores._filesystem_of("s3")
    filesystem.mkdir("bucket")
    yield filesystem
    filesystem.rm("bucket", recursive=True)
    stores._filesystem_of.cache_clear()


def put(filesystem, folder, url):
    """Copy a folder into a store."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            filesystem.pipe_file(f"{url}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def shown(catalog, items):
    return [picture_of(catalog.picture_source, item) for item in items]


def go(kind, filesystem, url, tmp_path):
    KINDS[kind](tmp_path / "in", range(N))
    put(filesystem, tmp_path / "in", url)
    report = build_catalog([url], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.errors) == (N, 0)
    local = ingest(tmp_path / "in", tmp_path / "local", embedder=Pixels())
    catalog = Catalog.open(tmp_path / "c")
    assert np.array_equal(catalog.embeddings(range(N)), local.embeddings(range(N)))
    assert catalog.items(range(N)) == local.items(range(N))
    assert shown(catalog, catalog.items(range(N))) == [None] * N
    catalog.name_pictures(url)
    for row, picture in enumerate(shown(catalog, catalog.items(range(N)))):
        assert upright_size(picture) == (12 + row, 9)
        assert open_image(picture).getpixel((0, 0)) == open_image(shown(local, local.items([row]))[0]).getpixel((0, 0))
    session = Session(catalog, backend="cpu")
    hits = session.search("#3", k=5)
    session.mark(hits.ids[:2], 1)
    session.find_all()
    session.export(tmp_path / "out.zip")
    session.export(tmp_path / "out.coco.json")
    (first, *_) = json.loads((tmp_path / "out.coco.json").read_text())["images"]
    assert (first["width"], first["height"]) == (12 + first["id"], 9)
    assert first["file_name"].startswith(f"{url}/")
    again = build_catalog([url], tmp_path / "c", embedder=Pixels())
    assert (again.added, catalog.verify()) == (0, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_goes_from_a_store_to_a_search_a_picture_and_an_export(tmp_path, memory, kind):
    go(kind, memory, "memory://bucket/in", tmp_path)


@pytest.mark.parametrize("kind", ["folder", "tars", "snapshot"])
def test_a_bucket_of_s3_is_read_like_a_folder(tmp_path, s3, kind):
    go(kind, s3, "s3://bucket/in", tmp_path)


def test_arrays_and_tables_of_embeddings_are_read_from_a_store(tmp_path, memory):
    rows = vectors(range(40))
    np.save(tmp_path / "x.npy", rows)
    write_embeddings(tmp_path / "x.parquet", range(40))
    for name, given in (("x.npy", "x.npy"), ("x.parquet", "x.parquet"), ("x.parquet", "tables")):
        place = f"/bucket/{given}/{name}" if given == "tables" else f"/bucket/{name}"
        memory.pipe_file(place, (tmp_path / name).read_bytes())
        here = ingest(tmp_path / name, tmp_path / f"here-{given}")
        there = ingest(f"memory://bucket/{given}", tmp_path / f"there-{given}")
        assert np.array_equal(here.embeddings(range(40)), there.embeddings(range(40)))
        assert here.items(range(40)) == there.items(range(40))
    long = "x" * 300  # no file on a disk has so long a name, a key of a store may
    memory.pipe_file(f"/bucket/{long}.npy", (tmp_path / "x.npy").read_bytes())
    assert ingest(f"memory://bucket/{long}.npy", tmp_path / "long").n == 40
    memory.pipe_file("/bucket/bad.npy", b"no array")
    with pytest.raises(CatalogFormatError, match=r"^memory://bucket/bad.npy: expected a .npy file"):
        ingest("memory://bucket/bad.npy", tmp_path / "bad")


def test_a_single_file_of_a_store_is_an_input_and_its_address_opens_no_other(tmp_path, memory):
    two_tars(tmp_path / "in", range(6))
    put(memory, tmp_path / "in", "memory://bucket/in")
    catalog = ingest("memory://bucket/in/00001.tar", tmp_path / "c", embedder=Pixels())
    catalog.name_pictures("memory://bucket/in/00001.tar")
    assert [upright_size(picture)[0] for picture in shown(catalog, catalog.items(range(3)))] == [15, 16, 17]
    assert picture_of(catalog.picture_source, {"image_path": "00000.tar", "image_offset": 0, "image_size": 9}) is None


def test_a_row_of_a_table_is_that_of_its_present_content(tmp_path, memory):
    for first in (0, 2):
        pq.write_table(hub_table(range(first, first + 2)), tmp_path / "x.parquet")
        memory.pipe_file("/bucket/x.parquet", (tmp_path / "x.parquet").read_bytes())
        assert open_row("memory://bucket/x.parquet", 1).read() == encoded(first + 1)


def test_an_address_of_a_file_is_its_path(tmp_path):
    pictures(tmp_path / "a b", range(3))
    catalog = ingest((tmp_path / "a b").as_uri(), tmp_path / "c", embedder=Pixels())
    (tmp_path / "a b").rename(tmp_path / "b")
    catalog.name_pictures((tmp_path / "b").as_uri())
    assert [upright_size(picture)[0] for picture in shown(catalog, catalog.items(range(3)))] == [12, 13, 14]


def test_keys_with_empty_parts_are_read_and_hidden_ones_are_not(tmp_path, memory):
    for name in ("a//0.png", "b c#?/1.png", ".hidden/2.png", "d/.3.png", "@eaDir/4.png"):
        memory.store[f"/bucket/in/{name}"] = fsspec.implementations.memory.MemoryFile(memory, f"/{name}", encoded(0))
    catalog = ingest("memory://bucket/in", tmp_path / "c", embedder=Pixels())
    assert [item["image_path"] for item in catalog.items(range(2))] == ["a//0.png", "b c#?/1.png"]
    assert catalog.n == 2


# Runs that stop


def ingest_until(tell, source, out, steps):
    """Ingest, and kill this process at a call of progress."""
    number = itertools.count(1)

    def progress(stage, done, total):
        if stage in ("embedding", "encoding"):
            tell(stage, done)
            if next(number) == steps:
                os.kill(os.getpid(), signal.SIGKILL)

    ingest([source], out, embedder=Pixels(), batch_size=8, progress=progress)


@pytest.mark.parametrize("kind", ["folder", "tars", "snapshot"])
def test_a_killed_run_goes_on_where_it_was(tmp_path, memory, kind, monkeypatch):
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 20)
    monkeypatch.setattr(staging, "PARTITION", 16)
    KINDS[kind](tmp_path / "in", range(50))
    put(memory, tmp_path / "in", "memory://bucket/in")
    ingest("memory://bucket/in", tmp_path / "whole", embedder=Pixels())
    child, lines = started(ingest_until, "memory://bucket/in", tmp_path / "killed", 5)
    with lines:
        told = list(lines)
    child.join()
    assert (len(told), child.exitcode) == (5, -signal.SIGKILL)
    asked = []
    read = stores.read
    monkeypatch.setattr(stores, "read", lambda url, *part: asked.append(url) or read(url, *part))
    ingest("memory://bucket/in", tmp_path / "killed", embedder=Pixels())
    same(Catalog.open(tmp_path / "whole"), Catalog.open(tmp_path / "killed"))
    assert Catalog.open(tmp_path / "killed").verify() == []
    if kind == "folder":
        assert 0 < len(asked) <= 34


class Broken:
    """A store that fails from the n-th read on."""

    def __init__(self, filesystem, reads, error):
        self._filesystem, self._left, self._error = filesystem, itertools.count(reads, -1), error

    def __getattr__(self, name):
        return getattr(self._filesystem, name)

    def cat_file(self, *arguments, **named):
        if next(self._left) <= 0:
            raise self._error
        return self._filesystem.cat_file(*arguments, **named)


@pytest.mark.parametrize(
    "error", [OSError("the network is down"), PermissionError("expired"), RuntimeError("no credentials")]
)
def test_a_store_that_does_not_answer_ends_a_run_that_can_be_resumed(tmp_path, memory, monkeypatch, error):
    monkeypatch.setattr(stores, "_WAITS_S", (0.0,))
    pictures(tmp_path / "in", range(20))
    put(memory, tmp_path / "in", "memory://bucket/in")
    whole = ingest("memory://bucket/in", tmp_path / "whole", embedder=Pixels())
    with monkeypatch.context() as broken:
        silent = Broken(memory, 7, error)
        broken.setattr(stores, "_filesystem_of", lambda scheme: silent)
        with pytest.raises(StoreError, match=rf"the store does not answer, or refuses \({error}\)"):
            ingest("memory://bucket/in", tmp_path / "c", embedder=Pixels())
    same(whole, ingest("memory://bucket/in", tmp_path / "c", embedder=Pixels()))


def test_a_request_is_repeated_before_a_store_counts_as_silent(memory, monkeypatch):
    monkeypatch.setattr(stores, "_WAITS_S", (0.0, 0.0))
    memory.pipe_file("/bucket/x", b"content")
    failures = [OSError("once"), OSError("twice")]

    def read(*_, **__):
        if failures:
            raise failures.pop()
        return b"content"

    monkeypatch.setattr(memory, "cat_file", read)
    assert stores.read("memory://bucket/x", 0, 7) == b"content"
    assert failures == []


# Broken parts and changes


def test_broken_items_of_a_store_are_recorded_and_added_once_they_are_repaired(tmp_path, memory, monkeypatch):
    pictures(tmp_path / "in", range(6))
    put(memory, tmp_path / "in", "memory://bucket/in")
    memory.pipe_file("/bucket/in/001.png", b"no picture")
    listed = stores.listed

    def lose_one(url):
        found = listed(url)
        memory.rm("/bucket/in/003.png")
        memory.pipe_file("/bucket/in/004.png", encoded(4) + b"longer")
        return found

    with monkeypatch.context() as changing:
        changing.setattr(stores, "listed", lose_one)
        catalog = ingest("memory://bucket/in", tmp_path / "c", embedder=Pixels())
    reasons = {error["id"]: error["reason"] for error in catalog.errors()}
    assert catalog.n == 3
    assert reasons[1].startswith("not a picture of a known format")
    assert reasons[3] == "there is no such file in the store"
    assert re.fullmatch(r"expected \d+ bytes, got \d+; the file has changed", reasons[4])
    put(memory, tmp_path / "in", "memory://bucket/in")
    assert append(tmp_path / "c", ["memory://bucket/in"], new=True, embedder=Pixels()).added == 3
    assert Catalog.open(tmp_path / "c").errors() == []


def test_a_cut_off_tar_of_a_store_gives_its_undamaged_pictures(tmp_path, memory):
    content = write_tar(tmp_path / "x.tar", samples(range(6))).read_bytes()
    memory.pipe_file("/bucket/in/x.tar", content[: len(content) // 2])
    report = build_catalog(["memory://bucket/in"], tmp_path / "c", embedder=Pixels())
    assert 1 <= report.n < 6
    assert "it is cut off" in Catalog.open(tmp_path / "c").errors()[0]["reason"]


def test_a_sync_follows_a_store(tmp_path, memory):
    pictures(tmp_path / "in", range(8))
    put(memory, tmp_path / "in", "memory://bucket/in")
    ingest("memory://bucket/in", tmp_path / "c", embedder=Pixels())
    memory.rm("/bucket/in/000.png")
    memory.pipe_file("/bucket/in/001.png", encoded(20))
    memory.mv("/bucket/in/002.png", "/bucket/in/moved.png")
    memory.pipe_file("/bucket/in/003.png", encoded(3))  # written again, with the same content
    memory.pipe_file("/bucket/in/new.png", encoded(30))
    report = sync(tmp_path / "c", ["memory://bucket/in"], embedder=Pixels())
    assert (report.added, report.changed, report.moved, report.removed) == (1, 1, 1, 1)
    catalog = Catalog.open(tmp_path / "c")
    catalog.name_pictures("memory://bucket/in")
    assert catalog.alive(np.arange(10)).tolist() == [False, False, *[True] * 8]
    widths = [upright_size(picture)[0] for picture in shown(catalog, catalog.items([2, 3, 8, 9]))]
    assert widths == [14, 15, 32, 42]
    with pytest.raises(UsageError, match="a store does not report changes"):
        next(watch(tmp_path / "c", ["memory://bucket/in"]))


def test_large_files_are_read_in_parts(tmp_path, memory, monkeypatch):
    monkeypatch.setattr(stores, "_BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(stores, "_IN_MEMORY_BYTES", 1 << 11)
    two_tars(tmp_path / "in", range(60))
    put(memory, tmp_path / "in", "memory://bucket/in")
    memory.pipe_file("/bucket/noise/x.png", noise := encoded(5) + bytes(1 << 13))
    parts = []
    read = stores.read
    monkeypatch.setattr(stores, "read", lambda url, start, size: parts.append(size) or read(url, start, size))
    ingest("memory://bucket/in", tmp_path / "c", embedder=Pixels())
    assert max(parts) <= 1 << 12
    parts.clear()
    with stores.copy(stores.stat("memory://bucket/noise/x.png")) as file:
        assert file.read() == noise
        assert file.fileno() > 0
    assert max(parts) <= 1 << 11


# What is refused


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        (
            "ftp://host/photos",
            UsageError,
            r"ftp://: expected a path, or an address that begins with file://, s3://",
        ),
        ("s3://key:secret@bucket/photos", UsageError, r"^s3://: expected an address without a name or password"),
        ("s3://key:a/secret@bucket/photos", UsageError, r"^s3://: expected an address without a name or password"),
        (
            "https://host/x.tar?signature=secret",
            UsageError,
            r"^https://host/x.tar: expected an address without \? and #",
        ),
        ("memory://bucket/a.mp4", CatalogFormatError, "expected no video in a store; copy it to a folder"),
        ("memory://bucket/a.png", CatalogFormatError, "give the folder of the picture"),
        ("s3://", UsageError, r"s3://: expected an address such as s3://bucket/photos"),
        ("file://host/photos", UsageError, r"expected a path after file://"),
        ("memory://bucket/none", CatalogNotFoundError, "expected a file or folder to ingest, found none"),
        ("memory://bucket/none.tar", DataError, "there is no such file in the store"),
        ("memory://bucket/none.csv", CatalogNotFoundError, "expected a file or folder to ingest, found none"),
        ("memory://bucket/texts/a.txt", CatalogFormatError, r"ends in \.npy, .*got '\.txt'; .*img2dataset"),
        ("memory://bucket/texts", UsageError, r"found none; memory://bucket/texts: skipped 2 files: 1 .mp4, 1 .txt"),
        ("memory://bucket/texts", UsageError, "copy videos from a store to a folder of this machine"),
        ("memory://bucket/clip", CatalogFormatError, "expected no folder of clip-retrieval in a store; copy it"),
        ("memory://bucket/clip/img_emb", UsageError, "found none.*1 .npy.*give files of embeddings by their own names"),
    ],
)
def test_what_is_no_input_is_refused_in_one_sentence(tmp_path, memory, url, error, message):
    memory.pipe_file("/bucket/texts/a.txt", b"a")
    memory.pipe_file("/bucket/clip/img_emb/img_emb_0.npy", b"a")
    memory.pipe_file("/bucket/texts/a.mp4", b"a")
    memory.pipe_file("/bucket/texts/.hidden.png", b"a")
    with pytest.raises(error, match=message) as raised:
        ingest(url, tmp_path / "c", embedder=Pixels())
    assert "secret" not in str(raised.value)
    assert not (tmp_path / "c/manifest.json").exists()


def test_a_missing_package_is_named_with_the_scheme(tmp_path, monkeypatch):
    stores._filesystem_of.cache_clear()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(BackendUnavailableError, match=r"gs:// needs gcsfs .*; pip install gcsfs"):
        ingest("gs://bucket/photos", tmp_path / "c", embedder=Pixels())
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'gpubranches\[remote\]'"):
        ingest("gs://bucket/photos", tmp_path / "c", embedder=Pixels())


# Over http


class Files(http.server.SimpleHTTPRequestHandler):
    """Sends files and parts of them, as ranges ask for, and folders as lists of links."""

    ranges = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.translate_path(self.path)
        if os.path.isdir(path):
            super().do_GET()
            return
        if not os.path.exists(path):
            self.send_error(404)
            return
        content = Path(path).read_bytes()
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if part and self.ranges:
            start, end = int(part[1]), min(int(part[2]), len(content) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            content = content[start : end + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def web(tmp_path):
    pytest.importorskip("aiohttp")
    (tmp_path / "web").mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Files, directory=str(tmp_path / "web"))
    )
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    stores._filesystem_of.cache_clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


def test_a_folder_and_a_tar_of_a_web_server_are_inputs(tmp_path, web):
    pictures(tmp_path / "web/photos", range(4))
    write_tar(tmp_path / "web/x.tar", samples(range(4)))
    for address in (f"{web}/photos", f"{web}/x.tar"):
        catalog = ingest(address, tmp_path / address.rpartition("/")[2], embedder=Pixels())
        catalog.name_pictures(address)
        assert [upright_size(picture)[0] for picture in shown(catalog, catalog.items(range(4)))] == [12, 13, 14, 15]


@pytest.mark.parametrize("look", [stores.stat, stores.listed, functools.partial(stores.read, start=0, size=9)])
def test_a_web_server_that_is_down_or_fails_does_not_count_as_one_without_the_file(web, monkeypatch, look):
    monkeypatch.setattr(stores, "_WAITS_S", ())
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(StoreError, match="the store does not answer"):
        look(f"http://127.0.0.1:{port}/x")
    monkeypatch.setattr(Files, "do_HEAD", lambda self: self.send_error(503))
    monkeypatch.setattr(Files, "do_GET", lambda self: self.send_error(503))
    with pytest.raises(StoreError, match="503"):
        look(f"{web}/x")


def test_links_that_sort_the_page_of_a_folder_are_no_files(tmp_path, web):
    pictures(tmp_path / "web/photos", range(2))
    links = "".join(f'<a href="{link}">x</a>' for link in ("?C=N;O=D", "?C=S;O=A", "/", "000.png", "001.png"))
    (tmp_path / "web/photos/index.html").write_text(links)
    assert ingest(f"{web}/photos", tmp_path / "c", embedder=Pixels()).n == 2
    assert list(stores.listed(f"{web}/photos")) == ["000.png", "001.png"]


def test_markers_of_folders_in_a_bucket_are_no_files(s3):
    for key in ("in/", "in/sub/", "in/sub/a b#?é%20.png"):
        s3.call_s3("put_object", Bucket="bucket", Key=key, Body=b"" if key.endswith("/") else b"abc")
    found = stores.listed("s3://bucket/in")
    assert list(found) == ["sub/a b#?é%20.png"]
    assert stores.read(found["sub/a b#?é%20.png"].url, 1, 5) == b"bc"


def test_a_web_server_that_accepts_a_request_and_sends_nothing_is_given_up(monkeypatch):
    pytest.importorskip("aiohttp")
    stores._filesystem_of.cache_clear()
    monkeypatch.setattr(stores, "SILENT_S", 0.2)
    monkeypatch.setattr(stores, "_WAITS_S", ())
    with (
        socket.create_server(("127.0.0.1", 0)) as server,  # the system accepts connections for it
        pytest.raises(StoreError, match="the store does not answer"),
    ):
        stores.stat(f"http://127.0.0.1:{server.getsockname()[1]}/x.tar")
    stores._filesystem_of.cache_clear()


def test_a_web_server_that_sends_no_parts_is_refused(tmp_path, web, monkeypatch):
    monkeypatch.setattr(Files, "ranges", False)
    monkeypatch.setattr(stores, "_BLOCK_BYTES", 1 << 12)
    write_tar(tmp_path / "web/x.tar", samples(range(9)))
    with pytest.raises(StoreError, match="expected a server that can send parts of a file"):
        ingest(f"{web}/x.tar", tmp_path / "c", embedder=Pixels())


# Pictures on the page


@pytest.fixture
def stored(tmp_path, memory):
    pictures(tmp_path / "in", range(6))
    put(memory, tmp_path / "in", "memory://bucket/in")
    memory.pipe_file("/bucket/secret.png", encoded(3))
    return ingest("memory://bucket/in", tmp_path / "c", embedder=Pixels())


@pytest.fixture
def client():
    """Return a function that makes a client of a catalog's page."""
    made = []

    def serve(catalog, **options):
        backend = open_backend("oracle", catalog)
        made.append((create_app(catalog, backend, **options), backend))
        return made[-1][0].test_client()

    yield serve
    for app, backend in made:
        app.extensions["gpubranches"].service.close()
        backend.close()


def test_a_server_reads_a_store_only_if_it_is_named(stored, client, monkeypatch):
    asked = []
    of = stores._filesystem_of
    monkeypatch.setattr(stores, "_filesystem_of", lambda scheme: asked.append(scheme) or of(scheme))
    manifest = json.loads((stored.path / "manifest.json").read_text())
    manifest["source"]["stores"] = ["memory://bucket/in"]  # as another author may write
    monkeypatch.setattr(type(stored), "source", property(lambda self: manifest["source"]))
    page = client(stored)
    text = page.get("/").get_data(as_text=True)
    told = "The pictures in memory://bucket/in are only read if"
    assert told in text
    assert page.get("/thumbnails/small/2.jpg").status_code == 404
    assert page.get("/originals/2").status_code == 404
    assert asked == []
    stored.name_pictures("memory://bucket/in")
    page = client(stored)
    assert told not in page.get("/").get_data(as_text=True)
    assert asked == []  # a page of tiles asks nothing of the store
    assert page.get("/thumbnails/small/2.jpg").mimetype == "image/jpeg"
    assert page.get("/originals/2").get_data() == encoded(2)
    assert asked


OUTSIDE = ("../secret.png", "a/../../secret.png", "%2e%2e/secret.png", "memory://bucket/secret.png", "", "a/./b.png")


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_a_named_store(stored, name):
    stored.name_pictures("memory://bucket/in")
    source = stored.picture_source
    assert picture_of(source, {"id": 0, "image_path": "000.png"}) is not None
    assert picture_of(source, {"id": 0, "image_path": name}) is None
    for secret in (
        "memory://bucket/secret.png",
        "memory://bucket/in/../secret.png",
        "memory://bucket/in/%2e%2e/secret.png",
    ):
        moved = {**source, "moved": [{"below": 9, "paths": {"memory://bucket/in/000.png": secret}}]}
        assert picture_of(moved, {"id": 0, "image_path": "000.png"}) is None
    outside = {**source, "roots": {"": "memory://bucket/in/.."}}
    assert picture_of(outside, {"id": 0, "image_path": "secret.png"}) is None


def test_a_browser_loads_pictures_of_a_store_of_https_itself_where_that_is_allowed(tmp_path, client):
    names = {"image_path": ["a%201.png", "../secret.png"]}
    catalog = Catalog.from_embeddings(tmp_path / "c", vectors(range(2)), metadata=names)
    plain_tar(tmp_path / "in", range(3))
    tars = ingest(tmp_path / "in", tmp_path / "tars", embedder=Pixels())
    for each in (catalog, tars):
        each.set_source({**each.source, "roots": {"": "https://photos.example/in"}})
    assert '<img src="https://' not in client(tars, remote_pictures=True).get("/").get_data(as_text=True)
    for allowed in (True, False):
        text = client(catalog, remote_pictures=allowed).get("/search?q=%230").get_data(as_text=True)
        assert ('<img src="https://photos.example/in/a%201.png"' in text) == allowed
        assert text.count('<img src="https://') == allowed


def test_a_store_that_falls_silent_is_told_and_the_page_goes_on(stored, client, monkeypatch):
    stored.name_pictures("memory://bucket/in")
    monkeypatch.setattr(stores, "_WAITS_S", ())
    page = client(stored)
    memory = stores._filesystem_of("memory")
    monkeypatch.setattr(memory, "info", lambda *_, **__: (_ for _ in ()).throw(OSError("down")))
    answer = page.get("/thumbnails/small/2.jpg")
    assert answer.status_code == 503
    assert "the store does not answer" in answer.get_data(as_text=True)
    assert page.get("/").status_code == 200


# Where pictures are now


def test_serve_shows_pictures_from_another_folder_or_store_and_writes_nothing(tmp_path, stored, memory):
    before = (stored.path / "manifest.json").read_bytes()
    pictures(tmp_path / "copy", range(6))
    stored.name_pictures(str(tmp_path / "copy"))
    assert [upright_size(picture)[0] for picture in shown(stored, stored.items(range(6)))] == [*range(12, 18)]
    put(memory, tmp_path / "copy", "memory://mirror/x")
    stored.name_pictures("memory://mirror/x")
    assert {str(picture) for picture in shown(stored, stored.items([4]))} == {"memory://mirror/x/004.png"}
    assert upright_size(shown(stored, stored.items([4]))[0]) == (16, 9)
    assert (stored.path / "manifest.json").read_bytes() == before
    for place, message in (
        (str(tmp_path / "none"), "expected the folder of the pictures, found none at"),
        ("ftp://a/b", "an address that begins with"),
    ):
        with pytest.raises(UsageError, match=message):
            stored.name_pictures(place)


def test_the_command_serve_hands_its_places_to_the_page(stored, monkeypatch):
    served = []
    monkeypatch.setattr("gpubranches.app.serve", lambda app, *_, **__: served.append(app))
    arguments = ["serve", str(stored.path), "--backend", "oracle"]
    without = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "pictures are in memory://bucket/in, which is only read if you name it" in without.stderr
    told = CliRunner().invoke(cli, [*arguments, "--pictures", "memory://bucket/in"], catch_exceptions=False)
    assert "not read" not in told.stderr
    found = [app.test_client().get("/thumbnails/small/1.jpg").status_code for app in served]
    assert found == [404, 200]
    for app in served:
        app.extensions["gpubranches"].service.close()


def test_with_several_inputs_the_one_that_moved_is_named(tmp_path, memory):
    for name, rows in (("one", range(3)), ("two", range(3, 6))):
        pictures(tmp_path / name, rows)
    put(memory, tmp_path / "two", "memory://bucket/two")
    catalog = ingest([tmp_path / "one", "memory://bucket/two"], tmp_path / "c", embedder=Pixels())
    (tmp_path / "one").rename(tmp_path / "moved")
    assert shown(catalog, catalog.items(range(6))) == [None] * 6
    with pytest.raises(UsageError, match=r"expected the input whose pictures are there, one of one=.*, two="):
        catalog.name_pictures(str(tmp_path / "moved"))
    catalog.name_pictures(f"one={tmp_path / 'moved'}", "memory://bucket/two")
    assert [upright_size(picture)[0] for picture in shown(catalog, catalog.items(range(6)))] == [*range(12, 18)]


def test_pictures_of_a_store_can_be_relocated_to_a_folder(tmp_path, stored):
    pictures(tmp_path / "copy", range(6))
    assert relocate(stored.path, "memory://bucket/in", tmp_path / "copy").there == 6
    catalog = Catalog.open(stored.path)
    assert upright_size(shown(catalog, catalog.items([2]))[0]) == (14, 9)
    with pytest.raises(UsageError, match="name a store by serve --pictures"):
        relocate(stored.path, tmp_path / "copy", "memory://bucket/in")


def test_a_catalog_without_folders_of_pictures_gets_one_named(tmp_path):
    pictures(tmp_path / "in", range(4))
    names = {"image_path": [f"{row:03}.png" for row in range(4)]}
    catalog = Catalog.from_embeddings(tmp_path / "c", vectors(range(4)), metadata=names)
    assert shown(catalog, catalog.items([1])) == [None]
    catalog.name_pictures(str(tmp_path / "in"))
    assert upright_size(shown(catalog, catalog.items([1]))[0]) == (13, 9)


def told_by_info(folder, *options):
    result = CliRunner().invoke(cli, ["info", str(folder), "--json", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)["pictures"]


def test_missing_pictures_are_counted_and_the_page_says_so(tmp_path, client, monkeypatch):
    pictures(tmp_path / "in", range(30))
    catalog = ingest(tmp_path / "in", tmp_path / "c", embedder=Pixels())
    assert told_by_info(catalog.path) == {"looked_at": 30, "missing": 0, "in_stores": 0, "complete": True}
    assert " missing. Name" not in client(catalog).get("/").get_data(as_text=True).partition("<main")[2]
    for row in range(4):
        (tmp_path / f"in/{row:03}.png").unlink()
    monkeypatch.setattr("gpubranches.service.originals._SAMPLED", 25)
    monkeypatch.setattr("gpubranches.service.originals._BATCH", 7)
    sampled = told_by_info(catalog.path)
    assert (sampled["looked_at"], sampled["complete"]) == (25, False)
    assert told_by_info(catalog.path, "--missing") == {"looked_at": 30, "missing": 4, "in_stores": 0, "complete": True}
    text = client(catalog).get("/").get_data(as_text=True).partition("<main")[2]
    assert re.search(r"Of 25 pictures looked for, [1-4] (is|are) missing\. Name their folder by serve --pictures", text)


def test_info_asks_a_store_for_pictures_only_if_it_is_named(stored, memory):
    memory.rm("/bucket/in/002.png")
    none = {"looked_at": 0, "missing": 0, "in_stores": 6, "complete": True}
    assert told_by_info(stored.path) == none
    assert told_by_info(stored.path, "--missing") == none
    for options in ([], ["--missing"]):
        found = told_by_info(stored.path, "--pictures", "memory://bucket/in", *options)
        assert found == {"looked_at": 6, "missing": 1, "in_stores": 0, "complete": True}
