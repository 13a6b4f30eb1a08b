"""What careless and hostile people ask for: refused in one sentence, before anything is lost."""

import importlib
import json
import re
import subprocess
import sys
from argparse import ArgumentTypeError
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from test_cli_inputs import catalog, refused  # noqa: F401

from benchmarks.harness.options import finite, whole
from gpubranches import Catalog, Session, open_backend
from gpubranches.app.access import Access, listen_on
from gpubranches.catalog import problems_at, repair
from gpubranches.core.files import require_outside_catalogs
from gpubranches.errors import DataError, LabelError, UsageError
from gpubranches.service.labels import Labels
from gpubranches.service.session_files import pack, unpack
from gpubranches.service.session_store import SessionStore

ROOT = Path(__file__).resolve().parents[1]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize(
    "what",
    [
        ("labels", "labels.sqlite"),
        ("labels", "manifest.json"),
        ("labels", "segments/x.json"),
        ("codes", "codes.parquet"),
        ("embeddings", "new"),
    ],
)
def test_an_export_takes_no_place_in_a_catalog(run, catalog, what):  # noqa: F811
    with closing(Labels.open(catalog / "labels.sqlite", "own")) as labels:
        labels.mark([1], 1)
    before = contents(catalog)
    refused(run("export", catalog, what[0], catalog / what[1]), 2, "outside the catalog")
    assert contents(catalog) == before


@pytest.mark.parametrize("name", ["manifest.json", "inputs-0.parquet", "new.csv"])
def test_matches_take_no_place_in_a_catalog(run, catalog, name):  # noqa: F811
    before = contents(catalog)
    given = ("--positive", "1,2", "--negative", "3", "--out", catalog / name)
    refused(run("refine", catalog, *given), 2, "outside the catalog")
    assert contents(catalog) == before


def test_a_head_takes_no_place_in_a_catalog(run, catalog):  # noqa: F811
    pytest.importorskip("torch", reason="torch is not installed")
    before = contents(catalog)
    given = ("--out", catalog / "head.safetensors", "--embedder", "none")
    refused(run("train-head", catalog, *given), 2, "outside the catalog")
    assert contents(catalog) == before


def test_a_link_into_a_catalog_is_seen_through(catalog, tmp_path):  # noqa: F811
    (tmp_path / "link").symlink_to(catalog / "segments")
    with pytest.raises(UsageError, match="outside the catalog"):
        require_outside_catalogs(tmp_path / "link" / "x.csv")
    require_outside_catalogs(tmp_path / "x.csv")


def test_a_file_called_damaged_stops_a_repair_before_its_commit(catalog):  # noqa: F811
    (catalog / "damaged").write_text("mine")
    (file,) = catalog.glob("segments/*/embeddings.f16")
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(DataError, match="damaged: expected a folder"):
        repair(catalog)
    assert problems_at(catalog)
    (catalog / "damaged").unlink()
    assert repair(catalog)
    assert not problems_at(catalog)


@pytest.mark.parametrize("origin", ["", "audits", None, 5, "x\ud800"])
def test_an_origin_that_means_nothing_is_refused(catalog, origin):  # noqa: F811
    opened = Catalog.open(catalog)
    with open_backend("cpu", opened) as backend:
        session = Session(opened, backend)
        with pytest.raises(LabelError, match="origin: expected one of user, suggestion, border, audit"):
            session.mark([1], 1, origin=origin)
        assert not session.labels.current()


def test_a_session_with_an_origin_of_before_can_be_exported_and_imported(catalog):  # noqa: F811
    opened = Catalog.open(catalog)
    store = SessionStore.open(catalog / "labels.sqlite")
    labels = Labels(store.database, "old")
    labels.bring([(1, 1, "robot"), (2, -1, "border")])

    class NoUploads:
        def all(self, session):
            return []

    with open_backend("cpu", opened) as backend:
        packed = pack(store.record("old"), Session(opened, backend, labels=labels), NoUploads())
    marks = unpack(json.dumps(packed))["marks"]
    assert [mark["origin"] for mark in marks] == ["user", "border"]
    store.close()


@pytest.mark.parametrize(
    "name", ["", "http://a.example", "a.example:8765", "a.example/b", "a b", "*", "[::1", "ä.example"]
)
def test_a_host_that_no_request_can_name_is_refused(name):
    app = Flask("x")
    app.extensions["gpubranches.access"] = Access(None)
    with pytest.raises(UsageError, match="--allowed-host: expected a name"):
        listen_on(app, "127.0.0.1", (name,))
    listen_on(app, "127.0.0.1", ("Photos.example.org", "[fd00::1]", "my_host"))
    assert app.extensions["gpubranches.access"].accepts_host("photos.example.org:443")


def test_serve_tells_its_stages_and_the_port_it_was_given(catalog):  # noqa: F811
    command = [sys.executable, "-c", "from gpubranches.cli import main; main()", "serve", str(catalog), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as server:
        try:
            line = server.stdout.readline()
            told = [server.stderr.readline().split()[0] for _ in range(3)]
        finally:
            server.terminate()
    assert re.search(r"http://127\.0\.0\.1:[1-9]\d* ", line)
    assert told == ["Opening", "Opening", "Loading"]


BENCHMARKS = [
    ("crashes", "--scenario", "nonsense"),
    ("crashes", "--minutes", "-1"),
    ("crashes", "--out", "none/of/x.md"),
    ("fuzz", "--seconds", "0"),
    ("fuzz", "--keep", "/dev/null/x"),
    ("load", "--users", "0"),
    ("load", "--backend", "nonsense"),
    ("breadth", "--data", ".", "--out", "/dev/null/x"),
    ("breadth", "--data", "none"),
    ("coverage", "--data", ".", "--out", "none/of/x.md"),
    ("nearest", "none"),
    ("verify", "speed", "--out", "/dev/null/x"),
    ("verify", "speed", "--budget-s", "nan"),
]


@pytest.mark.parametrize("given", BENCHMARKS, ids=" ".join)
def test_a_benchmark_refuses_before_it_works(program, monkeypatch, given):
    monkeypatch.chdir(ROOT)
    name, *rest = given
    package = (ROOT / "benchmarks" / name).is_dir()
    module = importlib.import_module(f"benchmarks.{name}.__main__" if package else f"benchmarks.{name}")
    code, out, err = program(module.main, *rest)
    assert code in (2, 3), err
    assert len(re.findall("rror: ", err)) == 1
    assert not out


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "0", "x", ""])
def test_numbers_beyond_the_bounds_are_refused(text):
    for read in (finite(0, above=True), whole(1)):
        with pytest.raises(ArgumentTypeError, match="expected a"):
            read(text)
    assert finite(0)("0") == whole(0)("0") == 0
