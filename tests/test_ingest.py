import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forking import started
from PIL import Image

from gpubranches import Catalog
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, DataError, UsageError
from gpubranches.ingestion import append, build_catalog, compatibility, ingest, staging


class Pixels:
    """A quick embedder: the mean colour of each of 4 x 4 fields, D = 48."""

    D = 48
    spec = ""
    identity = "pixels"
    text_mean = np.zeros(48, np.float32)

    def preprocess(self, image):
        return np.asarray(image.resize((4, 4)), np.float32).reshape(-1) + 1

    def encode(self, prepared):
        rows = np.array(prepared, np.float32).reshape(-1, 48)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def vectors(n, dims=48, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dims)).astype(np.float32)


def write_pictures(folder, n, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        path = folder / f"{i % 3}" / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)).save(path)


def same(one, other):
    """Assert that two catalogs answer alike: ids, codes, bits, embeddings, metadata, errors."""
    assert (one.n, one.next_id, one.errors()) == (other.n, other.next_id, other.errors())
    ids = one.sample_ids(one.n, np.random.default_rng(0))
    assert np.array_equal(one.codes(ids), other.codes(ids))
    if one.has_embeddings:
        assert np.array_equal(one.embeddings(ids), other.embeddings(ids))
    assert one.items(ids) == other.items(ids)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_npy_embeddings_become_three_tiers(tmp_path, dtype):
    x = vectors(500).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    report = build_catalog([tmp_path / "x.npy"], tmp_path / "c")
    catalog = Catalog.open(tmp_path / "c")
    assert (report.n, report.errors, catalog.d, catalog.D) == (500, 0, 32, 48)
    assert catalog.info()["tiers"] == ["codes", "bits", "embeddings"]
    unit = x.astype(np.float32) / np.linalg.norm(x.astype(np.float32), axis=1, keepdims=True)
    assert np.allclose(catalog.embeddings(np.arange(500)), unit, atol=1e-3)
    assert catalog.verify() == []
    assert not (tmp_path / "c" / "staging").exists()


def test_codes_alone_make_a_catalog_without_the_other_tiers(tmp_path):
    codes = np.random.default_rng(0).integers(0, 256, (300, 16)).astype(np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    with (tmp_path / "codes.u8bin").open("wb") as file:
        np.array([300, 16], np.uint32).tofile(file)
        codes.tofile(file)
    for name in ("codes.npy", "codes.u8bin"):
        ingest([tmp_path / name], tmp_path / f"{name}.catalog")
        catalog = Catalog.open(tmp_path / f"{name}.catalog")
        assert catalog.info()["tiers"] == ["codes"]
        assert np.array_equal(catalog.codes(np.arange(300)), codes)
    with pytest.raises(UsageError, match="neither --head nor"):
        ingest([tmp_path / "codes.npy"], tmp_path / "other", head="pca")


def test_fbin_and_head_none_keep_few_dims_as_they_are(tmp_path):
    x = vectors(200, 8)
    with (tmp_path / "x.fbin").open("wb") as file:
        np.array([200, 8], np.uint32).tofile(file)
        x.tofile(file)
    ingest([tmp_path / "x.fbin"], tmp_path / "c", head="none")
    catalog = Catalog.open(tmp_path / "c")
    assert (catalog.d, catalog.D) == (8, 8)
    span = np.ptp(catalog.codes(np.arange(200)), axis=0)
    assert (span == 255).all()


def test_a_clip_retrieval_folder_of_many_partitions_keeps_its_columns(tmp_path):
    x = vectors(1100)
    for name in ("img_emb", "metadata"):
        (tmp_path / "in" / name).mkdir(parents=True)
    for number in range(11):
        np.save(tmp_path / f"in/img_emb/img_emb_{number}.npy", x[number * 100 : (number + 1) * 100])
        table = pa.table({"caption": [f"row {number * 100 + i}" for i in range(100)], "label": [number] * 100})
        if number == 3:
            table = table.append_column("extra", pa.array([1.5] * 100))
        pq.write_table(table, tmp_path / f"in/metadata/metadata_{number}.parquet")
    ingest([tmp_path / "in"], tmp_path / "c")
    catalog = Catalog.open(tmp_path / "c")
    assert catalog.items([1050, 320, 7]) == [
        {"id": 1050, "caption": "row 1050", "label": 10, "extra": None},
        {"id": 320, "caption": "row 320", "label": 3, "extra": 1.5},
        {"id": 7, "caption": "row 7", "label": 0, "extra": None},
    ]
    pq.write_table(pa.table({"caption": ["one"]}), tmp_path / "in/metadata/metadata_5.parquet")
    with pytest.raises(CatalogFormatError, match=r"metadata_5.*expected 100 rows.*img_emb_5.*got 1"):
        ingest([tmp_path / "in"], tmp_path / "other")


def test_several_inputs_run_on_and_are_named(tmp_path):
    np.save(tmp_path / "a.npy", vectors(60))
    np.save(tmp_path / "b.npy", vectors(40, seed=1))
    ingest([tmp_path / "a.npy", tmp_path / "b.npy"], tmp_path / "c")
    catalog = Catalog.open(tmp_path / "c")
    assert catalog.items([59, 60]) == [{"id": 59, "input": "a"}, {"id": 60, "input": "b"}]
    np.save(tmp_path / "narrow.npy", vectors(5, 20))
    with pytest.raises(UsageError, match="equal dims"):
        ingest([tmp_path / "a.npy", tmp_path / "narrow.npy"], tmp_path / "other")


def test_rows_that_are_no_embeddings_consume_their_id(tmp_path):
    x = vectors(50)
    x[3], x[7, 0], x[9, 1] = 0, np.nan, np.inf
    np.save(tmp_path / "x.npy", x)
    report = build_catalog([tmp_path / "x.npy"], tmp_path / "c")
    catalog = Catalog.open(tmp_path / "c")
    assert (report.n, report.errors) == (47, 3)
    assert [error["id"] for error in catalog.errors()] == [3, 7, 9]
    assert catalog.alive(np.arange(50)).sum() == 47
    with pytest.raises(DataError, match="3 inputs could not be read"):
        ingest([tmp_path / "x.npy"], tmp_path / "strict", strict=True)
    assert Catalog.open(tmp_path / "strict").n == 47


def test_broken_pictures_are_recorded_and_the_rest_is_found(tmp_path):
    write_pictures(tmp_path / "in", 20)
    (tmp_path / "in/0/00000.png").write_bytes(b"")
    (tmp_path / "in/1/00001.png").write_bytes(b"no picture at all")
    whole = (tmp_path / "in/2/00002.png").read_bytes()
    (tmp_path / "in/2/00002.png").write_bytes(whole[:60])
    report = build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    catalog = Catalog.open(tmp_path / "c")
    assert (report.n, report.errors) == (17, 3)
    reasons = {error["path"]: error["reason"] for error in catalog.errors()}
    assert "empty" in reasons["0/00000.png"]
    assert "not a picture" in reasons["1/00001.png"]
    assert set(reasons) == {"0/00000.png", "1/00001.png", "2/00002.png"}
    item = catalog.items([1])[0]
    assert image_file(catalog.source, item) == tmp_path / "in" / item["image_path"]
    assert image_file(catalog.source, {"image_path": "../../etc/passwd"}) is None


def test_a_catalog_begun_with_few_rows_has_codes_for_those_to_come(tmp_path):
    rows = np.random.default_rng(0).standard_normal((1500, 48)).astype(np.float32) + 1
    np.save(tmp_path / "few.npy", rows[:3])
    np.save(tmp_path / "more.npy", rows[3:])
    ingest([tmp_path / "few.npy"], tmp_path / "c")
    append(tmp_path / "c", [tmp_path / "more.npy"])
    codes = Catalog.open(tmp_path / "c").codes(np.arange(1500))
    assert np.isin(codes, [0, 255]).mean() < 0.01
    assert np.median(codes.std(axis=0)) > 10


def test_append_uses_the_catalogs_own_constants(tmp_path):
    np.save(tmp_path / "a.npy", vectors(300))
    np.save(tmp_path / "b.npy", vectors(100, seed=1))
    ingest([tmp_path / "a.npy"], tmp_path / "c")
    before = Catalog.open(tmp_path / "c")
    assert append(tmp_path / "c", [tmp_path / "b.npy"]).n == 400
    catalog = Catalog.open(tmp_path / "c")
    assert np.array_equal(before.codes(np.arange(300)), catalog.codes(np.arange(300)))
    assert np.array_equal(catalog.signs.mean_, before.signs.mean_)
    np.save(tmp_path / "turned.npy", vectors(300)[::-1])
    assert append(tmp_path / "c", [tmp_path / "turned.npy"]).n == 700
    catalog.refresh()
    assert np.array_equal(catalog.codes(np.arange(400, 700)), catalog.codes(np.arange(300))[::-1])
    np.save(tmp_path / "narrow.npy", vectors(5, 20))
    with pytest.raises(UsageError, match="expected embeddings of 48 dims"):
        append(tmp_path / "c", [tmp_path / "narrow.npy"])


def test_pictures_of_an_appended_folder_are_its_own_and_the_others_stay(tmp_path, monkeypatch):
    """All have the same names."""
    monkeypatch.setattr(compatibility, "open_embedder", lambda spec, **options: Pixels())
    monkeypatch.setattr(Pixels, "spec", "pixels")
    folders = ["a", "b", "x/b", "y/a", "y/b"]
    for number, name in enumerate(folders):
        write_pictures(tmp_path / name, 3, seed=number)
    ingest([tmp_path / "a"], tmp_path / "c", embedder=Pixels())
    for names in (["b"], ["x/b"], ["y/a", "y/b"]):
        append(tmp_path / "c", [tmp_path / name for name in names])
    catalog = Catalog.open(tmp_path / "c")
    items = catalog.items(range(15))
    for item, folder in zip(items, np.repeat(folders, 3), strict=True):
        assert image_file(catalog.source, item) == tmp_path / folder / item["image_path"]
    assert [item.get("input") for item in items[::3]] == [None, "b", "b-1", "a", "b-2"]


def ingest_until(tell, source, out, embedder, steps):
    """Ingest, tell of every step, and be killed at the one numbered `steps`."""
    number = itertools.count(1)

    def progress(stage, done, total):
        tell(stage, done)
        if next(number) == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    ingest([source], out, embedder=embedder, batch_size=8, progress=progress)


def ingest_without_end(tell, source, out):
    def progress(stage, done, total):
        tell(stage)
        time.sleep(600)

    ingest([source], out, progress=progress)


@pytest.mark.parametrize("kind", ["pictures", "array"])
def test_a_killed_run_goes_on_where_it_was(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 5000)
    monkeypatch.setattr(staging, "PARTITION", 16)
    if kind == "pictures":
        write_pictures(tmp_path / "in", 150)
        (tmp_path / "in/0/00000.png").write_bytes(b"")
        source, embedder = tmp_path / "in", Pixels()
    else:
        np.save(tmp_path / "in.npy", vectors(23_000))
        source, embedder = tmp_path / "in.npy", None
    ingest([source], tmp_path / "whole", embedder=embedder)
    seen = []
    for steps in (4, 9) if kind == "pictures" else (5, 2):  # a segment may be encoded and one not be written yet
        child, lines = started(ingest_until, source, tmp_path / "killed", embedder, steps)
        with lines:
            seen.append([line.split() for line in lines])
        child.join()
        assert (len(seen[-1]), child.exitcode) == (steps, -signal.SIGKILL)
    begun = seen[1][0]
    assert int(begun[1]) >= (16 if kind == "pictures" else 5000)
    ingest([source], tmp_path / "killed", embedder=embedder)
    same(Catalog.open(tmp_path / "whole"), Catalog.open(tmp_path / "killed"))
    assert Catalog.open(tmp_path / "killed").verify() == []


def test_a_second_process_is_refused(tmp_path):
    np.save(tmp_path / "in.npy", vectors(400))
    child, lines = started(ingest_without_end, tmp_path / "in.npy", tmp_path / "c")
    with lines:
        assert lines.readline() == "encoding\n"
        with pytest.raises(DataError, match="another process is writing"):
            ingest([tmp_path / "in.npy"], tmp_path / "c")
        child.kill()
        child.join()


def test_what_cannot_be_ingested_is_refused_with_advice(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no array")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY broken")
    (tmp_path / "short.fbin").write_bytes(np.array([5, 5], np.uint32).tobytes() + b"123")
    np.save(tmp_path / "wrong.npy", np.zeros((4, 4, 4), np.float32))
    np.save(tmp_path / "ints.npy", np.zeros((4, 4), np.int64))
    np.save(tmp_path / "none.npy", np.zeros((0, 16), np.float32))
    np.save(tmp_path / "nan.npy", np.full((9, 16), np.nan, np.float32))
    np.save(tmp_path / "ok.npy", vectors(50, 20))
    for name, error, says in [
        ("nowhere", CatalogNotFoundError, "nowhere"),
        ("empty", UsageError, "at least one row or picture"),
        ("text.txt", CatalogFormatError, ".txt"),
        ("bad.npy", CatalogFormatError, "bad.npy"),
        ("short.fbin", CatalogFormatError, "11 bytes"),
        ("wrong.npy", CatalogFormatError, r"\(4, 4, 4\)"),
        ("ints.npy", CatalogFormatError, "int64"),
        ("none.npy", UsageError, "at least one row"),
        ("nan.npy", DataError, "finite"),
    ]:
        with pytest.raises(error, match=says):
            ingest([tmp_path / name], tmp_path / "out")
    with pytest.raises(UsageError, match="found none"):
        ingest([tmp_path / "empty"], tmp_path / "out", embedder=Pixels())
    ingest([tmp_path / "ok.npy"], tmp_path / "ok")
    np.save(tmp_path / "other.npy", vectors(60, 20))
    with pytest.raises(UsageError, match="other input"):
        ingest([tmp_path / "other.npy"], tmp_path / "ok")
    with pytest.raises(UsageError, match="48"):
        ingest([tmp_path / "ok.npy"], tmp_path / "dims", embedder=Pixels())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        ingest([tmp_path / "ok.npy"], tmp_path / "file" / "catalog")


LIMITED = """
import resource, sys
from gpubranches.ingestion import ingest
from gpubranches.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    ingest([sys.argv[1]], sys.argv[2])
except DataError as error:
    print(error); sys.exit(3)
"""


def test_a_full_disk_ends_in_an_error_and_the_next_run_goes_on(tmp_path):
    np.save(tmp_path / "in.npy", vectors(9000))
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "in.npy"), str(tmp_path / "c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "cannot write" in done.stdout
    assert ingest([tmp_path / "in.npy"], tmp_path / "c").n == 9000
    assert Catalog.open(tmp_path / "c").verify() == []


MEASURED = """
import sys, threading, time
import gpubranches.ingestion
gpubranches.catalog.catalog.SEGMENT_ROWS = 60_000
gpubranches.catalog.segment_rows.ENCODED_ROWS = 2_000  # each thread has a block, whenever it has its turn
peak = 0
def watch():
    global peak
    while True:
        with open("/proc/self/status") as file:
            peak = max(peak, next(int(line.split()[1]) for line in file if "RssAnon" in line))
        time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
gpubranches.ingestion.ingest([sys.argv[1]], sys.argv[2])
print(peak)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    peaks = []
    for n in (120_000, 360_000):
        path = tmp_path / f"{n}.npy"
        array = np.lib.format.open_memmap(path, "w+", np.float16, (n, 128))
        for start in range(0, n, 20_000):
            array[start : start + 20_000] = vectors(20_000, 128, start)
        del array
        command = [sys.executable, "-c", MEASURED, str(path), str(tmp_path / f"c{n}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) * 1024)
    # Three times the rows, the same bound: 200 thousand more rows would be 50 MB of embeddings alone.
    assert peaks[1] < peaks[0] + 25_000_000


def test_progress_counts_up_to_the_total(tmp_path):
    np.save(tmp_path / "in.npy", vectors(500))
    calls = []
    ingest([tmp_path / "in.npy"], tmp_path / "c", progress=lambda *call: calls.append(call))
    assert calls[0] == ("encoding", 0, 500)
    assert calls[-1] == ("encoding", 500, 500)


def test_the_manifest_is_json_without_the_inputs_content(tmp_path):
    np.save(tmp_path / "in.npy", vectors(50))
    began = time.time()
    ingest([tmp_path / "in.npy"], tmp_path / "c")
    manifest = json.loads((tmp_path / "c/manifest.json").read_text())
    assert manifest["format"] == "gpubranches-catalog"
    assert (tmp_path / "c/manifest.json").stat().st_mtime >= began - 1
