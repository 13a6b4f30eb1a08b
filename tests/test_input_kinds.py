"""Every kind of input from its files to a search, a picture and an export; broken parts; a run that was killed."""

import bz2
import gzip
import itertools
import json
import lzma
import os
import re
import shutil
import signal
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forking import started
from input_files import (
    COLOURS,
    KINDS,
    encoded,
    hub_table,
    pictures,
    plain_tar,
    samples,
    snapshot,
    two_tars,
    vectors,
    write_embeddings,
    write_saved,
    write_stream,
    write_tar,
)
from PIL import Image
from test_ingest import Pixels, same

from gpubranches import Catalog, Session
from gpubranches.catalog.pictures.decoding import open_image, upright_size
from gpubranches.catalog.pictures.image_files import picture_of
from gpubranches.errors import CatalogFormatError, DataError, UsageError
from gpubranches.ingestion import append, build_catalog, ingest, staging

N = 30


def shown(catalog, items):
    return [picture_of(catalog.source, item) for item in items]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_goes_from_its_files_to_a_search_a_picture_and_an_export(tmp_path, kind):
    KINDS[kind](tmp_path / "in", range(N))
    report = build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.errors) == (N, 0)
    catalog = Catalog.open(tmp_path / "c")
    items = catalog.items(range(N))
    for row, picture in enumerate(shown(catalog, items)):
        assert upright_size(picture) == (12 + row, 9)
        assert open_image(picture).getpixel((0, 0)) == Image.new("RGB", (1, 1), COLOURS[row % 6]).getpixel((0, 0))
    pictures(tmp_path / "plain", range(N))
    plain = ingest(tmp_path / "plain", tmp_path / "p", embedder=Pixels())
    assert np.array_equal(catalog.embeddings(range(N)), plain.embeddings(range(N)))
    if kind not in ("folder", "plain tar"):
        assert [item["caption"] for item in items] == [f"picture {row}" for row in range(N)]
    session = Session(catalog, backend="cpu")
    hits = session.search("#3", k=5)
    assert len(hits.ids) == 5
    session.mark(hits.ids[:2], 1)
    session.find_all()
    session.export(tmp_path / "out.coco.json")
    (tmp_path / "out.csv").unlink(missing_ok=True)
    session.export(tmp_path / "out.csv")
    (first, *_) = json.loads((tmp_path / "out.coco.json").read_text())["images"]
    assert (first["width"], first["height"]) == (12 + first["id"], 9)
    again = build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    assert (again.added, catalog.verify()) == (0, [])


def test_what_a_tar_says_of_a_picture_becomes_metadata(tmp_path):
    two_tars(tmp_path / "in", range(4))
    report = build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    assert any("skipped 2 files: 1 .json, 1 .parquet" in note for note in report.notes)
    (item,) = Catalog.open(tmp_path / "c").items([3])
    expected = {"caption": "picture 3", "url": "https://example.org/3.png", "source_id": 3, "exif": '{"a": 1}', "id": 3}
    assert item.items() >= {**expected, "image_path": "00001.tar", "image_member": "000000003.png"}.items()


def test_what_a_table_says_of_a_picture_becomes_metadata(tmp_path):
    snapshot(tmp_path / "in", range(4))
    report = build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    (item,) = Catalog.open(tmp_path / "c").items([3])
    assert item == {
        "id": 3,
        "image_path": "data/train-00001-of-00002.parquet",
        "image_member": "p3.png",
        "image_row": 1,
        "label": 1,
        "label_name": "cold",
        "caption": "picture 3",
        "boxes": [[0.5, 1.5]],
    }
    assert any("skipped 2 files: " in note for note in report.notes)
    assert any("the column `mask` contains bytes and is left out" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["tars", "snapshot", "saved"])
def test_a_single_file_is_an_input(tmp_path, kind):
    KINDS[kind](tmp_path / "in", range(6))
    file = next(
        path
        for path in sorted((tmp_path / "in").rglob("*0000*.*"))
        if path.suffix in (".tar", ".parquet", ".arrow") and path.stat().st_size > 900
    )
    build_catalog([file], tmp_path / "c", embedder=Pixels())
    catalog = Catalog.open(tmp_path / "c")
    assert catalog.n == 3
    assert [upright_size(picture)[0] for picture in shown(catalog, catalog.items(range(3)))] == [12, 13, 14]


# What is broken


def test_broken_tars_keep_their_good_pictures_and_tell_the_rest(tmp_path):
    folder = tmp_path / "in"
    whole = write_tar(folder / "0.tar", samples(range(8))).read_bytes()
    (folder / "1.tar").write_bytes(whole[: len(whole) // 2])
    (folder / "2.tar").write_bytes(b"no tar at all" * 100)
    (folder / "3.tar").write_bytes(b"")
    hurt = bytearray(whole)
    hurt[6 * 512 + 148 : 6 * 512 + 156] = b"broken!!"
    (folder / "4.tar").write_bytes(hurt)
    write_tar(
        folder / "5.tar", [("a.png", b"no picture"), ("b.png", encoded(1)), ("b.json", b"{broken"), ("b.txt", b"ok")]
    )
    report = build_catalog([folder], tmp_path / "c", embedder=Pixels())
    catalog = Catalog.open(tmp_path / "c")
    told = {(error["path"], error["reason"].split(";")[0]) for error in catalog.errors()}
    assert (
        "5.tar",
        "a.png: not a picture of a known format (JPEG, PNG, WEBP, GIF, TIFF, BMP, AVIF, HEIF, JXL)",
    ) in told
    for name, says in (
        ("1.tar", "it is cut off"),
        ("2.tar", "behind 0 pictures"),
        ("3.tar", "behind 0"),
        ("4.tar", "header is damaged"),
    ):
        assert any(path == name and says in reason for path, reason in told), (name, told)
    names = [item["image_path"] for item in catalog.items(catalog.sample_ids(catalog.n, np.random.default_rng(0)))]
    assert names.count("0.tar") == 8
    assert 0 < names.count("1.tar") < 8
    assert names.count("5.tar") == 1
    assert len([note for note in report.notes if "tar" in note]) >= 4
    (folder / "2.tar").write_bytes(whole.replace(b"picture", b"texture"))
    repaired = build_catalog([folder], tmp_path / "c", embedder=Pixels())
    assert repaired.added == 8


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_a_compressed_tar_names_what_unpacks_it(tmp_path, module):
    whole = write_tar(tmp_path / "in/0.tar", samples(range(2))).read_bytes()
    (tmp_path / "in/1.tar").write_bytes(module.compress(whole))
    report = build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.errors) == (2, 1)
    (error,) = Catalog.open(tmp_path / "c").errors()
    assert re.search(r"the tar is compressed .* unpack it by (gunzip|bunzip2|unxz)", error["reason"])


def test_a_tar_has_no_hidden_pictures_and_tells_what_it_skips(tmp_path):
    hidden = ["._a.png", "./d/._b.png", "__MACOSX/d/c.png", ".cache/d.png", "@eaDir/a.png/THUMB_M.jpg", "x/.e.png"]
    files = [(name, b"\0\5\26\7 the other half of a file of a Mac") for name in hidden]
    files += [("./a.png", encoded(0)), ("d/../b.PNG", encoded(1)), ("a.mp4", b"x"), ("b.mp4", b"x"), ("README", b"x")]
    write_tar(tmp_path / "in/x.tar", files)
    with tarfile.open(tmp_path / "in/x.tar", "a") as tar:
        for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            entry = tarfile.TarInfo("c.png")
            entry.type, entry.linkname = kind, "a.png"
            tar.addfile(entry)
    report = build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.errors) == (2, 0)
    assert any("skipped in the tars 6 files: 2 .mp4, 2 links, " in note for note in report.notes)


@pytest.mark.parametrize(
    ("picture", "texts", "caption"),
    [
        ("s.png", ["s.txt"], "s.txt"),
        ("s.seg.png", ["s.txt"], "s.txt"),
        ("s.png", ["s.caption.txt"], "s.caption.txt"),
        ("s.seg.png", ["s.txt", "s.seg.txt"], "s.seg.txt"),
        ("s.png", ["s.txt", "s.seg.txt"], "s.txt"),
        ("at 5.10.32.png", ["at 5.10.33.txt", "at 5.10.32.txt", "at 5.10.34.txt"], "at 5.10.32.txt"),
        ("at 5.10.32.png", ["at 5.10.33.txt"], None),
        ("v1.2/s.png", ["v1.2/s.txt", "v1.txt"], "v1.2/s.txt"),
    ],
)
def test_a_text_describes_the_picture_of_its_name(tmp_path, picture, texts, caption):
    write_tar(tmp_path / "x.tar", [(picture, encoded(0)), *((name, name.encode()) for name in texts)])
    catalog = ingest(tmp_path / "x.tar", tmp_path / "c", embedder=Pixels())
    assert catalog.items([0])[0].get("caption") == caption


def test_a_tar_cut_at_any_byte_gives_its_pictures_or_a_reason(tmp_path):
    whole = write_tar(tmp_path / "in/x.tar", samples(range(3))).read_bytes()
    from gpubranches.ingestion.pieces import FileState
    from gpubranches.ingestion.tar_shards import read_members

    for end in range(0, len(whole), 97):
        (tmp_path / "in/x.tar").write_bytes(whole[:end])
        members = read_members(FileState.at(str(tmp_path / "in/x.tar")))
        assert len(members.names) <= 3
        assert members.broken or not any(whole[end:])


def test_a_broken_table_or_row_is_recorded(tmp_path):
    folder = tmp_path / "in"
    snapshot(folder, range(8))
    table = hub_table(range(4)).to_pylist()
    table[1]["image"] = {"bytes": b"no picture", "path": "evil.png"}
    table[2]["image"] = {"bytes": None, "path": "elsewhere.png"}
    table[3]["image"] = None
    pq.write_table(pa.Table.from_pylist(table, hub_table([0]).schema), folder / "data/train-00002-of-00002.parquet")
    (folder / "data/z.parquet").write_bytes(b"PAR1 broken PAR1")
    report = build_catalog([folder], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.errors) == (9, 4)
    reasons = [error["reason"] for error in Catalog.open(tmp_path / "c").errors()]
    assert "row 1 (evil.png): not a picture" in reasons[0]
    assert reasons[1:3] == ["the row has no bytes of a picture"] * 2
    assert "the file is damaged or of another format" in reasons[3]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.parquet", lambda path: pq.write_table(pa.table({"caption": ["a"]}), path), "expected a column of pictures"),
        ("x.parquet", lambda path: path.write_bytes(b"PAR1"), "damaged or of another format"),
        ("x.arrow", lambda path: path.write_bytes(b""), "damaged or of another format"),
        (
            "x.arrow",
            lambda path: write_stream(path, hub_table(range(4)), options=pa.ipc.IpcWriteOptions(compression="zstd")),
            "without compression",
        ),
        ("x.tar", lambda path: write_tar(path, [("a.txt", b"x")]), "expected pictures in the tars, found none"),
        ("x.tiff", lambda path: path.write_bytes(b"x"), "give the folder of the picture"),
        ("x.zip", lambda path: path.write_bytes(b"x"), r"ends in \.npy, .*\.tar, \.parquet, \.arrow, .*got '\.zip'"),
        *(
            (f"x{ending}", lambda path: path.write_bytes(b"x"), says)
            for endings, says in (
                ("tar.gz tgz tar.bz2 zst zip 7z", "unpack compressed files first"),
                ("npz pt safetensors h5 feather", "write embeddings as .npy, or .* as Parquet"),
                ("csv txt jsonl", "write embeddings as .npy, .*for addresses of pictures .*img2dataset"),
                ("CR2 dng svg", "export pictures as JPEG"),
            )
            for ending in (f".{each}" for each in endings.split())
        ),
    ],
)
def test_what_is_no_input_is_refused_in_one_sentence(tmp_path, name, content, says):
    content(tmp_path / name)
    with pytest.raises(DataError, match=says) as refused:
        build_catalog([tmp_path / name], tmp_path / "c", embedder=Pixels())
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "c/manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("0.jpg", b"", "0.jpg: the file is empty"),
        ("0.jpg", b"<html>", "0.jpg: not a picture of a known format"),
        ("0.tar", b"<html>" * 200, "0.tar: the tar cannot be read behind 0 pictures"),
        ("0.tar", gzip.compress(b"x", mtime=0), "0.tar: the tar is compressed"),
    ],
    ids=["empty", "another format", "no tar", "compressed"],
)
def test_an_input_without_anything_readable_says_why(tmp_path, name, content, says):
    (tmp_path / "in").mkdir()
    for copy in ("", "more"):
        (tmp_path / f"in/{name.replace('.', f'{copy}.')}").write_bytes(content)
    with pytest.raises(DataError, match=f"expected an item that can be read, found none; the first: {says}"):
        build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    KINDS["folder" if name == "0.jpg" else "tars"](tmp_path / "whole", range(4))
    shutil.rmtree(tmp_path / "in")
    (tmp_path / "whole").rename(tmp_path / "in")
    assert build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels()).n == 4


def test_pictures_without_a_model_are_refused(tmp_path):
    plain_tar(tmp_path / "in", range(2))
    with pytest.raises(UsageError, match="pictures need a model; pass --embedder"):
        build_catalog([tmp_path / "in"], tmp_path / "c")


# Stopped runs, and what is new


def ingest_until(tell, source, out, embedder, steps):
    number = itertools.count(1)

    def progress(stage, done, total):
        if stage in ("embedding", "encoding", "reading"):
            tell(stage, done)
            if next(number) == steps:
                os.kill(os.getpid(), signal.SIGKILL)

    ingest([source], out, embedder=embedder, batch_size=8, progress=progress)


@pytest.mark.parametrize("kind", ["tars", "snapshot", "saved", "embeddings"])
def test_a_killed_run_goes_on_where_it_was(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 20)
    monkeypatch.setattr(staging, "PARTITION", 16)
    embedder = Pixels() if kind in KINDS else None
    if kind in KINDS:
        KINDS[kind](tmp_path / "in", range(50))
    else:
        (tmp_path / "in").mkdir()
        for part in range(3):
            write_embeddings(tmp_path / f"in/{part}.parquet", range(100 * part, 100 * part + 100))
    ingest([tmp_path / "in"], tmp_path / "whole", embedder=embedder)
    seen = []
    for steps in (4, 6):
        child, lines = started(ingest_until, tmp_path / "in", tmp_path / "killed", embedder, steps)
        with lines:
            seen.append([line.split() for line in lines])
        child.join()
        assert (len(seen[-1]), child.exitcode) == (steps, -signal.SIGKILL)
    if kind in KINDS:
        assert int(seen[1][0][1]) >= 16
    ingest([tmp_path / "in"], tmp_path / "killed", embedder=embedder)
    same(Catalog.open(tmp_path / "whole"), Catalog.open(tmp_path / "killed"))
    assert Catalog.open(tmp_path / "killed").verify() == []
    assert not (tmp_path / "killed/staging").exists()


@pytest.mark.parametrize("kind", ["tars", "snapshot"])
def test_new_files_are_appended_and_known_ones_are_not_embedded_again(tmp_path, kind):
    KINDS[kind](tmp_path / "in", range(8))
    ingest([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    if kind == "tars":
        write_tar(tmp_path / "in/00002.tar", samples(range(8, 12)))
    else:
        pq.write_table(hub_table(range(8, 12)), tmp_path / "in/data/train-00002-of-00002.parquet")
    with pytest.raises(UsageError, match="1 file is not in it"):
        build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    assert append(tmp_path / "c", [tmp_path / "in"], new=True, embedder=Pixels()).added == 4
    catalog = Catalog.open(tmp_path / "c")
    assert [upright_size(picture)[0] for picture in shown(catalog, catalog.items(range(12)))] == list(range(12, 24))


def test_several_kinds_become_one_catalog(tmp_path):
    for kind in ("folder", "tars", "snapshot", "saved"):
        KINDS[kind](tmp_path / kind, range(6))
    ingest([tmp_path / kind for kind in ("folder", "tars", "snapshot", "saved")], tmp_path / "c", embedder=Pixels())
    catalog = Catalog.open(tmp_path / "c")
    items = catalog.items(range(24))
    assert [item["input"] for item in items[::6]] == ["folder", "tars", "snapshot", "saved"]
    assert [upright_size(picture)[0] for picture in shown(catalog, items)] == [*range(12, 18)] * 4


# Embeddings


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("dtype", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_embeddings_of_a_table_are_those_of_an_array(tmp_path, dtype, fixed):
    write_embeddings(tmp_path / "in/a.parquet", range(70), dtype, fixed)
    write_embeddings(tmp_path / "in/b.parquet", range(70, 120), dtype, fixed)
    report = build_catalog([tmp_path / "in"], tmp_path / "c")
    np.save(tmp_path / "x.npy", vectors(range(120)).astype(np.float16 if dtype == pa.float16() else np.float32))
    array = ingest(tmp_path / "x.npy", tmp_path / "array")
    catalog = Catalog.open(tmp_path / "c")
    assert np.array_equal(catalog.embeddings(range(120)), array.embeddings(range(120)))
    assert np.array_equal(catalog.codes(range(120)), array.codes(range(120)))
    assert [item["caption"] for item in catalog.items(range(120))] == [f"row {row}" for row in range(120)]
    assert any("float64 are rounded to float32" in note for note in report.notes) == (dtype == pa.float64())
    assert build_catalog([tmp_path / "in"], tmp_path / "c").added == 0


WIDE = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(WIDE.tolist(), pa.list_view(pa.float32())),
        pa.array(WIDE.tolist(), pa.large_list_view(pa.float64())),
        pa.FixedShapeTensorArray.from_numpy_ndarray(WIDE),
        pa.array([None] * 70 + WIDE.tolist(), pa.list_(pa.float32())),
        pa.array([[], [1.0], None, [1.0] * 17, *WIDE.tolist()], pa.large_list(pa.float32())),
        pa.array([None, *WIDE.tolist()], pa.list_(pa.float32(), 16)),
    ],
    ids=["list view", "large list view", "tensors", "none at first", "several lengths", "none of fixed length"],
)
def test_lists_of_any_form_are_embeddings(tmp_path, column):
    write_stream(tmp_path / "x.arrow", pa.table({"embedding": column}))
    report = build_catalog([tmp_path / "x.arrow"], tmp_path / "c")
    lacking = len(column) - len(WIDE)
    assert (report.n, report.errors) == (len(WIDE), lacking)
    np.save(tmp_path / "x.npy", WIDE)
    array = ingest(tmp_path / "x.npy", tmp_path / "array")
    rows = Catalog.open(tmp_path / "c").embeddings(np.arange(lacking, len(column)))
    assert np.array_equal(rows, array.embeddings(range(len(WIDE))))


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([[1, 2]] * 3, pa.list_(pa.int8())), r"got embedding \(list<element: int8>\)"),
        (pa.array(["[1.0, 2.0]"] * 3), r"got embedding \(string\)"),
        (pa.array([[[1.0] * 8]] * 3), r"got embedding \(list<element: list<element: double>>\)"),
        (pa.array([], pa.list_(pa.float32(), 16)), "expected rows, the table is empty"),
        (pa.array([[]] * 3, pa.list_(pa.float32())), "lists of several lengths"),
        (pa.array([None] * 3, pa.list_(pa.float32(), 16)), "found none; the first: the row has no embedding of 16"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_table_without_embeddings_says_what_it_has(tmp_path, column, says, whole):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"embedding": column}), tmp_path / "in/x.parquet")
    with pytest.raises(DataError, match=says):
        ingest(tmp_path / "in" if whole else tmp_path / "in/x.parquet", tmp_path / "c")


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())]
)
@pytest.mark.parametrize("ending", ["parquet", "PARQUET", "arrow"])
def test_bytes_of_any_type_are_pictures(tmp_path, kind, ending):
    column = pa.array([encoded(row) for row in range(4)]).cast(kind)
    table = pa.table({"JPG": column, "t": list("abcd")})
    if ending == "arrow":
        write_stream(tmp_path / "x.arrow", table)
    else:
        pq.write_table(table, tmp_path / f"x.{ending}")
    if ending == "arrow" and kind not in (pa.binary(), pa.large_binary()):
        with pytest.raises(CatalogFormatError, match=r"binary or large_binary .* write it as Parquet"):
            ingest(tmp_path / f"x.{ending}", tmp_path / "c", embedder=Pixels())
        return
    catalog = ingest(tmp_path / f"x.{ending}", tmp_path / "c", embedder=Pixels())
    items = catalog.items(range(4))
    assert [upright_size(picture)[0] for picture in shown(catalog, items)] == [12, 13, 14, 15]
    assert [item["t"] for item in items] == list("abcd")


def test_a_saved_data_set_tells_what_it_lacks(tmp_path):
    write_saved(tmp_path / "in/train", hub_table(range(6)))
    (tmp_path / "in/train/data-00001-of-00002.arrow").unlink()
    state = json.loads((tmp_path / "in/train/state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (tmp_path / "in/train/state.json").write_text(json.dumps(state))
    report = build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    assert report.n == 3
    assert "train: 1 of 2 files of the saved data set are missing, such as data-00001-of-00002.arrow" in report.notes
    assert any("train: the data set selects rows by indices" in note for note in report.notes)


def test_a_table_of_addresses_says_how_to_get_their_pictures(tmp_path):
    pq.write_table(pa.table({"url": ["https://example.org/a.jpg"], "caption": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(CatalogFormatError, match=r"got url \(string\), caption \(string\); .* img2dataset"):
        ingest(tmp_path / "x.parquet", tmp_path / "c", embedder=Pixels())


def test_rows_without_an_embedding_have_a_reason(tmp_path):
    values = [*vectors(range(20)).tolist(), None, [1.0, 2.0], [0.0] * 16]
    table = pa.table({"vector": pa.array(values, pa.list_(pa.float32())), "boxes": [[1.0] * 4] * 23})
    write_stream(tmp_path / "x.arrow", table)
    report = build_catalog([tmp_path / "x.arrow"], tmp_path / "c")
    assert (report.n, report.errors) == (20, 3)
    reasons = [error["reason"] for error in Catalog.open(tmp_path / "c").errors()]
    assert reasons == ["the row has no embedding of 16 numbers"] * 2 + ["the embedding is zero, NaN or infinite"]


def test_a_table_with_embeddings_and_pictures_shows_them(tmp_path):
    table = hub_table(range(20)).append_column("embedding", pa.array(list(vectors(range(20))), pa.list_(pa.float64())))
    pq.write_table(table, tmp_path / "x.parquet")
    catalog = ingest(tmp_path / "x.parquet", tmp_path / "c")
    assert [upright_size(picture)[0] for picture in shown(catalog, catalog.items(range(20)))] == list(range(12, 32))


def test_pictures_that_embeddings_name_are_found(tmp_path):
    pictures(tmp_path / "shots", range(9))
    names = [str(tmp_path / f"shots/{row:03}.png") for row in range(9)]
    write_embeddings(tmp_path / "x.parquet", range(9), image_path=names)
    catalog = ingest(tmp_path / "x.parquet", tmp_path / "c")
    assert [upright_size(picture)[0] for picture in shown(catalog, catalog.items(range(9)))] == list(range(12, 21))


def test_tables_that_disagree_are_refused(tmp_path):
    one = pa.array(list(vectors(range(3))), pa.list_(pa.float64(), 16))
    pq.write_table(pa.table({"a": one, "b": one}), tmp_path / "two.parquet")
    with pytest.raises(CatalogFormatError, match="expected one column of embeddings, got a, b"):
        ingest(tmp_path / "two.parquet", tmp_path / "c")
    write_embeddings(tmp_path / "in/a.parquet", range(3))
    pq.write_table(pa.table({"embedding": pa.array([[1.0] * 8], pa.list_(pa.float32(), 8))}), tmp_path / "in/b.parquet")
    with pytest.raises(CatalogFormatError, match=r"expected embeddings of equal dims, got 16 in .*, 8 in "):
        ingest(tmp_path / "in", tmp_path / "c")


@pytest.mark.parametrize("name", ["float64", "bfloat16"])
def test_wide_and_brain_floats_are_converted_with_a_word(tmp_path, name):
    rows = vectors(range(50)).astype(np.float32)
    if name == "bfloat16":
        upper = (rows.view(np.uint32) >> 16).astype(np.uint16)
        np.save(tmp_path / "x.npy", upper.view("V2"))
        rows = (upper.astype(np.uint32) << 16).view(np.float32)
    else:
        np.save(tmp_path / "x.npy", rows.astype(np.float64))
    report = build_catalog([tmp_path / "x.npy"], tmp_path / "c")
    np.save(tmp_path / "y.npy", rows)
    other = ingest(tmp_path / "y.npy", tmp_path / "d")
    assert np.array_equal(Catalog.open(tmp_path / "c").embeddings(range(50)), other.embeddings(range(50)))
    assert f"embeddings of {name} are converted to float32" in report.notes[0]
