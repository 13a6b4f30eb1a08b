"""Inputs as other people have them: partitions, columns, links, names and files of every kind."""

import io
import json
import os
import stat
import string
import struct
import zipfile
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_identity import draw, draw_all, shown
from test_ingest import Pixels, vectors

from gpubranches import Catalog, Session, open_backend
from gpubranches.catalog.metadata.columns import OWN
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.core.files import escaped_path, unescaped_path
from gpubranches.errors import CatalogFormatError, DataError, UsageError
from gpubranches.ingestion import append, build_catalog, ingest, relocate
from gpubranches.ingestion.clip_retrieval import ClipRetrieval


def write_clip(folder, tables, endings=None, dims=48):
    """Write a clip-retrieval folder of one partition a table; tables: dicts of columns or Arrow tables."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (table, ending) in enumerate(zip(tables, endings or map(str, range(len(tables))), strict=True)):
        rows = table if isinstance(table, pa.Table) else pa.table(table)
        np.save(folder / f"img_emb/img_emb_{ending}.npy", vectors(len(rows), dims, number))
        pq.write_table(rows, folder / f"metadata/metadata_{ending}.parquet")
    return folder


# Partitions


@pytest.mark.parametrize("ending", ["{}", "{:02d}", "{:04d}", "{:05d}"])
def test_partitions_are_paired_by_their_endings(tmp_path, ending):
    tables = [{"caption": [f"{number} {row}" for row in range(3)]} for number in range(12)]
    folder = write_clip(tmp_path / "in", tables, [ending.format(number) for number in range(12)])
    report = build_catalog([folder], tmp_path / "c")
    catalog = Catalog.open(tmp_path / "c")
    assert [item["caption"] for item in catalog.items([0, 5, 35])] == ["0 0", "1 2", "11 2"]
    assert report.notes == ()


def test_partitions_whose_endings_differ_are_paired_by_number_where_that_is_clear(tmp_path):
    folder = write_clip(tmp_path / "in", [{"caption": [str(number)] * 4} for number in range(3)])
    for number, name in ((0, "0000"), (1, "0001")):
        (folder / f"metadata/metadata_{number}.parquet").rename(folder / f"metadata/metadata_{name}.parquet")
    source = ClipRetrieval(folder)
    assert source.items(0, 12)["caption"].to_pylist() == ["0"] * 4 + ["1"] * 4 + ["2"] * 4
    np.save(folder / "img_emb/img_emb_00.npy", vectors(4))
    pq.write_table(pa.table({"caption": ["zero zero"] * 4}), folder / "metadata/metadata_00.parquet")
    source = ClipRetrieval(folder)
    assert source.items(0, 16)["caption"].to_pylist()[::4] == ["0", "zero zero", "1", "2"]


def test_missing_and_left_over_metadata_are_told(tmp_path):
    folder = write_clip(tmp_path / "in", [{"caption": ["a"] * 4}] * 4, ["00", "01", "02", "03"])
    (folder / "metadata/metadata_02.parquet").unlink()
    (folder / "img_emb/img_emb_03.npy").unlink()
    notes = build_catalog([folder], tmp_path / "c").notes
    assert any("1 of 3 partitions have no metadata: img_emb_02.npy" in note for note in notes)
    assert any("1 files of metadata have no embeddings: metadata_03.parquet" in note for note in notes)
    for path in (folder / "metadata").iterdir():
        path.unlink()
    assert build_catalog([folder], tmp_path / "bare").notes == ()


def test_partitions_without_rows_and_metadata_of_other_formats(tmp_path):
    folder = write_clip(tmp_path / "in", [{"caption": ["a"] * 4}, {"caption": []}, {"caption": ["c"] * 4}])
    (folder / "metadata/metadata_2.parquet").unlink()
    (folder / "metadata/metadata_2.csv").write_text("caption\nc\nc\nc\nc\n")
    report = build_catalog([folder], tmp_path / "c")
    assert report.n == 8
    assert any("metadata are read from .parquet alone, skipped are metadata_2.csv" in note for note in report.notes)
    assert build_catalog([folder], tmp_path / "c").added == 0
    assert append(tmp_path / "c", [folder], new=True).added == 0


# Columns


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.sets(st.sampled_from([*OWN, "caption", *(f"source_{name}" for name in OWN), "source_id_2"]), min_size=1),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_every_column_of_the_user_is_kept_under_one_name(tmp_path_factory, partitions, joined):
    root = tmp_path_factory.mktemp("columns")
    tables = [
        {name: [f"{name} {part} {row}" for row in range(4)] for name in sorted(names)}
        for part, names in enumerate(partitions)
    ]
    inputs = [write_clip(root / "in", tables)]
    if joined:
        inputs.append(write_clip(root / "more", [{"caption": ["x"] * 4}]))
    report = build_catalog(inputs, root / "c")
    catalog = Catalog.open(root / "c")
    kept: dict[str, str] = {}
    for part, names in enumerate(partitions):
        for row in range(4):
            item = catalog.items([4 * part + row])[0]
            assert item["id"] == 4 * part + row
            own = {value: column for column, value in item.items() if column not in ("id", "input")}
            for name in names:
                column = own[f"{name} {part} {row}"]
                assert kept.setdefault(name, column) == column
    for name, column in kept.items():
        assert (column == name) == (name not in OWN)
        if name in OWN:
            assert any(f"the column `{name}` is kept as `{column}`" in note for note in report.notes)


def test_an_export_joins_back_by_the_users_own_id(tmp_path):
    table = {"id": [f"ABC-{row}" for row in range(20)], "error": [row / 10 for row in range(20)]}
    folder = write_clip(tmp_path / "in", [table])
    rows = np.load(folder / "img_emb/img_emb_0.npy")
    rows[4] = np.nan
    np.save(folder / "img_emb/img_emb_0.npy", rows)
    ingest([folder], tmp_path / "c")
    catalog = Catalog.open(tmp_path / "c")
    assert [error["reason"] for error in catalog.errors()] == ["the embedding is zero, NaN or infinite"]
    assert catalog.items([7]) == [{"id": 7, "source_id": "ABC-7", "source_error": 0.7}]
    assert catalog.count(catalog.where("source_id = 'ABC-7' AND source_error > 0.6")) == 1


@pytest.mark.parametrize("inner", [False, True])
def test_columns_of_one_name_are_refused(tmp_path, inner):
    texts = pa.array(["a", "b"])
    if inner:
        table = pa.table({"where": pa.StructArray.from_arrays([texts, texts], names=["x", "x"])})
    else:
        table = pa.Table.from_arrays([texts, texts], names=["caption", "caption"])
    folder = write_clip(tmp_path / "in", [table])
    with pytest.raises(CatalogFormatError, match=f"distinct names, got {'where.x' if inner else 'caption'} twice"):
        ingest([folder], tmp_path / "c")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 400), st.booleans())
def test_damaged_metadata_are_told_as_damaged(tmp_path_factory, at, length, cut):
    root = tmp_path_factory.mktemp("damaged")
    folder = write_clip(root / "in", [{"caption": [os.urandom(12).hex() for _ in range(300)]}])
    table = folder / "metadata/metadata_0.parquet"
    content = bytearray(table.read_bytes())
    at %= len(content)
    content = content[:at] if cut else content[:at] + os.urandom(length) + content[at + length :]
    table.write_bytes(content)
    with suppress(CatalogFormatError):
        assert ingest([folder], root / "c").n == 300
        return
    with pytest.raises(CatalogFormatError, match=r"metadata_0\.parquet: (expected|the file is damaged)"):
        ingest([folder], root / "c")


# Pictures elsewhere


def export(catalog, out, format):
    ids = catalog.sample_ids(catalog.n, np.random.default_rng(0))
    backend = open_backend("cpu", catalog)
    with backend:
        session = Session(catalog, backend, seed=0)
        session.mark(ids[:2], +1)
        session.mark(ids[2:4], -1)
        session.refine(second_stage=False, random_negatives=0)
        return session.export(out, format), session.last_answer().ranking.total


def test_pictures_that_are_links_are_shown_as_they_were_taken_in(tmp_path):
    store = draw_all(tmp_path / "store", [f"{i}.png" for i in range(8)])
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in store.iterdir():
        (linked / path.name).symlink_to(os.path.relpath(path, linked))
    (linked / "inner.png").symlink_to("0.png")
    draw(linked / "own.png", 50)
    ingest([linked], tmp_path / "c", embedder=Pixels())
    catalog = Catalog.open(tmp_path / "c")
    assert shown(catalog) == sorted([*map(str, store.iterdir()), str(store / "0.png"), str(linked / "own.png")])
    written, total = export(catalog, tmp_path / "m.coco.json", "coco")
    assert written == total > 0
    assert export(catalog, tmp_path / "m.img2dataset.parquet", "img2dataset")[0] == total
    (tmp_path / "secret.png").write_bytes((store / "1.png").read_bytes())
    (linked / "1.png").unlink()
    (linked / "1.png").symlink_to(tmp_path / "secret.png")
    assert str(tmp_path / "secret.png") not in shown(catalog)
    (store / "1.png").unlink()
    (store / "1.png").symlink_to(tmp_path / "secret.png")
    item = next(item for item in catalog.items(range(catalog.n)) if item["image_path"] == "1.png")
    assert image_file(catalog.source, item) is None
    (tmp_path / "store").rename(tmp_path / "shelf")
    assert relocate(tmp_path / "c", store, tmp_path / "shelf").there == 9


def test_the_programs_own_links_are_shown(tmp_path):
    store = draw_all(tmp_path / "store", [f"{i}.png" for i in range(8)])
    ingest([store], tmp_path / "c", embedder=Pixels())
    catalog = Catalog.open(tmp_path / "c")
    written, _ = export(catalog, tmp_path / "hits", "links")
    ingest([tmp_path / "hits"], tmp_path / "again", embedder=Pixels())
    assert shown(Catalog.open(tmp_path / "again")) == sorted(
        str(path.readlink()) for path in (tmp_path / "hits").iterdir()
    )
    with pytest.raises(UsageError, match=f"{written} of {written} pictures are already in the catalog"):
        append(tmp_path / "c", [tmp_path / "hits"], embedder=Pixels())


def test_linked_folders_are_looked_through_once_and_loops_are_no_end(tmp_path):
    store = draw_all(tmp_path / "store", ["a.png", "deep/b.png"])
    (store / "deep/back").symlink_to(tmp_path / "in")
    folder = draw_all(tmp_path / "in", ["c.png"], 3)
    for name, target in (("one", store), ("two", store), ("up", tmp_path), ("self", folder), ("loop", "loop")):
        (folder / name).symlink_to(target)
    ingest([folder], tmp_path / "c", embedder=Pixels())
    assert shown(Catalog.open(tmp_path / "c")) == sorted(map(str, [folder / "c.png", *store.rglob("*.png")]))


@pytest.mark.parametrize("how", ["beside", "absolute", "working", "named", "moved away", "everywhere"])
def test_pictures_that_metadata_name_are_found_or_told(tmp_path, monkeypatch, how):
    shots = draw_all(tmp_path / "data/shots", [f"{i}.png" for i in range(6)])
    paths = [f"{i}.png" for i in range(6)]
    if how in ("absolute", "moved away", "everywhere"):
        paths = [str(shots / path) for path in paths]
    if how == "working":
        paths = [f"data/shots/{path}" for path in paths]
        monkeypatch.chdir(tmp_path)
    if how == "everywhere":
        paths[0] = "/nowhere/0.png"
    folder = write_clip((shots if how == "beside" else tmp_path / "in"), [{"image_path": paths}])
    if how == "moved away":
        shots.rename(tmp_path / "data/other")
    notes = build_catalog([folder], tmp_path / "c", pictures=shots if how == "named" else None).notes
    catalog = Catalog.open(tmp_path / "c")
    found = [image_file(catalog.source, item) for item in catalog.items(range(6))]
    if how in ("moved away", "everywhere"):
        assert any("are missing, such as" in note and "--pictures" in note for note in notes)
        assert found == [None] * 6
    else:
        assert found == [shots / f"{i}.png" for i in range(6)]
        assert any("are shown from" in note for note in notes) == (how != "beside")
    if how == "moved away":
        assert relocate(tmp_path / "c", shots, tmp_path / "data/other").there == 6
        ingest([folder], tmp_path / "again", pictures=tmp_path / "data/other")
        for out in ("c", "again"):
            catalog = Catalog.open(tmp_path / out)
            found = [image_file(catalog.source, item) for item in catalog.items(range(6))]
            assert found == [tmp_path / f"data/other/{i}.png" for i in range(6)]
        with pytest.raises(UsageError, match="found none"):
            ingest([folder], tmp_path / "third", pictures=tmp_path / "nowhere")


def test_metadata_open_no_folder_but_that_of_the_pictures(tmp_path):
    shots = draw_all(tmp_path / "shots", ["0.png", "1.png"])
    draw(tmp_path / "private.png", 7)
    folder = write_clip(tmp_path / "in", [{"image_path": ["0.png", "../private.png"], "image_target": ["/x", "/y"]}])
    ingest([folder], tmp_path / "c", pictures=shots)
    catalog = Catalog.open(tmp_path / "c")
    assert [image_file(catalog.source, item) for item in catalog.items([0, 1])] == [shots / "0.png", None]


# Names


NAMES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=12),
        st.sampled_from([b"caf\xe9", b"caf\xe8", b"caf\\xe9", b"caf\\x5cxe9", b"\\\xe9", b"a\nb", b"\x1b[2J", b"\\"]),
        st.text(string.ascii_letters + "\\x5c'\" ", min_size=1, max_size=8).map(str.encode),
    ).filter(lambda name: b"/" not in name and b"\0" not in name and not name.startswith(b".")),
    min_size=1,
    max_size=8,
    unique=True,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_pictures_of_any_name_are_shown_each_its_own(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names") / os.fsdecode(b"in\xff")
    folder.mkdir()
    for number, name in enumerate(names):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (number, 2 * number, 255 - 9 * number)).save(buffer, "PNG")
        with open(os.fsencode(folder) + b"/" + name + b".png", "wb") as file:
            file.write(buffer.getvalue())
    out = folder.parent / "c"
    ingest([folder], out, embedder=Pixels())
    catalog = Catalog.open(out)
    items = catalog.items(range(len(names)))
    files = [image_file(catalog.source, item) for item in items]
    assert sorted(map(os.fsencode, files)) == sorted(os.fsencode(folder) + b"/" + name + b".png" for name in names)
    assert len({item["image_path"] for item in items}) == len(names)
    json.dumps(items).encode()
    assert append(out, [folder], embedder=Pixels(), new=True).added == 0


@given(st.binary(max_size=20).filter(lambda name: b"\0" not in name))
def test_a_path_is_spelled_and_read_back(name):
    text = escaped_path(os.fsdecode(name))
    assert os.fsencode(unescaped_path(text)) == name
    text.encode()


# Files of other kinds


def test_what_is_no_picture_by_its_ending_is_counted(tmp_path):
    folder = draw_all(tmp_path / "in", ["a.png"])
    for name in ("b.mov", "c.MOV", "d.txt", "noending", "e.dng"):
        (folder / name).write_bytes(b"x")
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to("nowhere")
    Image.new("RGB", (4, 4)).save(folder / "f.jfif", "JPEG")
    report = build_catalog([folder], tmp_path / "c", embedder=Pixels())
    assert report.n == 2
    assert any("skipped 5 files: 2 .mov, " in note and "1 without ending" in note for note in report.notes)
    assert any("2 links that lead to no file" in note for note in report.notes)
    only = tmp_path / "only"
    only.mkdir()
    (only / "a.doc").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"found none; .*1 \.doc; .*pictures end in \.jpg, "):
        ingest([only], tmp_path / "none", embedder=Pixels())
    assert not (tmp_path / "none").exists()


def test_folders_that_systems_fill_have_no_pictures(tmp_path):
    folders = [
        "@eaDir/a.png",
        "#recycle",
        "$RECYCLE.BIN/S-1",
        "deep/lost+found",
        "__MACOSX",
        "System Volume Information",
    ]
    folder = draw_all(tmp_path / "in", ["a.png", ".hidden.png", *(f"{name}/x.png" for name in folders)])
    report = build_catalog([folder], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.errors) == (1, 0)
    assert any("skipped 6 folders of the system, such as " in note for note in report.notes)
    assert build_catalog([folder / "#recycle"], tmp_path / "named", embedder=Pixels()).n == 1


def test_a_catalog_inside_the_pictures_is_left_alone(tmp_path):
    folder = draw_all(tmp_path / "in", ["a.png"])
    ingest([folder], folder / "catalog", embedder=Pixels())
    draw(folder / "catalog/thumbnails/07/x.jpg", 1)
    draw(folder / "b.png", 2)
    report = append(folder / "catalog", [folder], embedder=Pixels(), new=True)
    assert (report.n, report.added) == (2, 1)
    assert any("1 folders that are catalogs, such as catalog" in note for note in report.notes)


def archive():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros((3, 4), np.float32))
    return buffer.getvalue()


def broken_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", "b")
    return buffer.getvalue()[:30]


def npy(header, body=b""):
    text = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


ODD = {
    "archive": archive(),
    "broken archive": broken_archive(),
    "empty": b"",
    "text": b"0.1 0.2 0.3",
    "pickle": b"\x80\x04K\x01.",
    "half a header": b"\x93NUMPY\x01\x00\x76",
    "no header": npy("what is this"),
    "header that is code": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 8), 'x': [i for i in ()]}"),
    "cut": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 8)}", bytes(10)),
    "huge": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000, 8)}"),
    "negative": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 8)}", bytes(64)),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 8)}", bytes(128)),
    "bytes": npy("{'descr': '|V3', 'fortran_order': False, 'shape': (2, 8)}", bytes(48)),
    "complex": npy("{'descr': '<c8', 'fortran_order': False, 'shape': (2, 8)}", bytes(128)),
    "texts": npy("{'descr': '<U2', 'fortran_order': False, 'shape': (2, 8)}", bytes(128)),
    "deep": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 2)}", bytes(8)),
    "scalar": npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", bytes(4)),
    "none": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}"),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_npy_files_are_refused_in_one_sentence(tmp_path, what):
    from gpubranches.cli.search import _read_vector

    path = tmp_path / "x.npy"
    path.write_bytes(ODD[what])
    with pytest.raises((DataError, UsageError), match=r"x\.npy: expected") as refused:
        ingest([path], tmp_path / "c")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "c").exists()
    if what != "deep" and what != "scalar":
        with pytest.raises((DataError, UsageError), match=r"x\.npy: expected"):
            _read_vector(path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_of_a_npy_file_end_in_a_traceback(tmp_path_factory, content, magic):
    from gpubranches.cli.search import _read_vector

    path = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    path.write_bytes(b"\x93NUMPY" * magic + content)
    for read in (_read_vector, lambda path: ingest([path], path.with_suffix(".catalog"))):
        with pytest.raises((DataError, UsageError)):
            read(path)


@pytest.mark.parametrize("name", ["x.npy", "x.u8bin", "x.fbin"])
def test_what_is_no_file_is_refused_and_nothing_hangs(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)
    with pytest.raises(CatalogFormatError, match="expected a"):
        ingest([tmp_path / name], tmp_path / "c")
