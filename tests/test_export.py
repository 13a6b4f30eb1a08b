"""Taking away what was found: each format read back by who reads it, of any size, however it ends."""

import csv
import dataclasses
import http.client
import io
import itertools
import json
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from clusters import NAMES
from hypothesis import given
from hypothesis import strategies as st
from pictures import SPITEFUL
from PIL import Image
from serving import *  # noqa: F403
from serving import API, begun, found_all, running
from test_identity import draw_all
from test_ingest import Pixels

from gpubranches import Catalog, Ranking, open_backend
from gpubranches.app import limits
from gpubranches.app.limits import DOWNLOADS
from gpubranches.catalog.items import read_table, unified_schema
from gpubranches.catalog.metadata.columns import CAPTIONS
from gpubranches.catalog.pictures.image_files import Picture
from gpubranches.cli import cli
from gpubranches.core.files import atomic_folder
from gpubranches.errors import DataError, UsageError
from gpubranches.ingestion import ingest, sync
from gpubranches.ingestion.encode import encode
from gpubranches.service.catalog_service import CatalogService
from gpubranches.service.export import BOX_FORMATS, FORMATS, ItemTable, export_items, formats_of, zip_file
from gpubranches.service.export import item_table as walking
from gpubranches.service.export.item_table import free_names
from gpubranches.service.originals import Original

PICKED = [40, 3, 5, 6, 17, 8, 9]
"""Best first; item 5 has no picture and 6 a broken one, 3 a caption that is a script, and 9 does not match."""


def ranked(ids, matched=None, votes=True):
    ids = np.array(ids, np.int64)
    matched = np.ones(len(ids), np.bool_) if matched is None else np.array(matched, np.bool_)
    return Ranking(
        ids,
        np.linspace(3, -1, len(ids)).astype(np.float32),
        matched,
        int(matched.sum()),
        len(ids),
        0.0,
        votes=np.arange(len(ids))[::-1].astype(np.uint16) if votes else None,
    )


@pytest.fixture
def matches(catalog):
    return ItemTable(catalog, ranked(PICKED, [item != 9 for item in PICKED]))


JUDGED = {"mark": None, "tier": None, "chance": None}
"""Columns of a ranking of which nothing more is known."""


def made(matches, format):
    """Return the bytes of a format, and how many items it says are in it."""
    chunks, parts = FORMATS[format].write(matches), []
    while True:
        try:
            parts.append(next(chunks))
        except StopIteration as end:
            return b"".join(parts), end.value


def test_the_tables_hold_every_match_with_its_columns_best_first(matches, catalog):
    columns = ["id", "score", "votes", *JUDGED, *catalog.columns[1:]]
    scores = ranked(PICKED).scores.tolist()
    expected = [
        {"id": item, "score": scores[rank], "votes": 6 - rank, **JUDGED, **catalog.items([item])[0]}
        for rank, item in enumerate(PICKED[:-1])
    ]
    read = {
        "json": json.loads,
        "jsonl": lambda content: [json.loads(line) for line in content.splitlines()],
        "parquet": lambda content: pq.read_table(io.BytesIO(content)).to_pylist(),
    }
    for format, reader in read.items():
        content, count = made(matches, format)
        assert (reader(content), count) == (expected, 6), format
        assert list(reader(content)[0]) == columns
    table = pq.read_table(io.BytesIO(made(matches, "parquet")[0]))
    assert [table.schema.field(name).type for name in columns[:3]] == [pa.int64(), pa.float32(), pa.uint16()]
    rows = list(csv.DictReader(io.StringIO(made(matches, "csv")[0].decode("utf-8-sig"), newline="")))
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in expected] == rows


def test_models_without_boxes_have_no_votes_and_nothing_is_an_empty_file(catalog):
    few = ItemTable(catalog, ranked([4], votes=False))
    assert json.loads(made(few, "json")[0])[0]["votes"] is None
    none = ItemTable(catalog, ranked([]))
    assert json.loads(made(none, "json")[0]) == json.loads(made(none, "coco")[0])["images"] == []
    assert pq.read_table(io.BytesIO(made(none, "parquet")[0])).column_names == none.columns
    assert made(none, "csv")[0].decode("utf-8-sig").strip().split(",") == none.columns
    with tarfile.open(fileobj=io.BytesIO(made(none, "links")[0])) as tar:
        assert tar.getnames() == ["matches"]
    for format in formats_of(catalog):
        assert made(none, format)[1] == 0


@pytest.mark.parametrize("rows", [np.array([6, 0]), np.arange(7) % 6 == 0])
def test_other_rows_of_the_ranking_can_be_taken(catalog, rows):
    taken = ItemTable(catalog, ranked(PICKED, [False] * 7), rows)
    ids = [row["id"] for row in json.loads(made(taken, "json")[0])]
    assert ids == [PICKED[row] for row in (rows if rows.dtype != bool else np.flatnonzero(rows))]


# Parquet for img2dataset


def test_img2dataset_gets_urls_captions_and_the_names_of_its_files(matches, folder):
    content, count = made(matches, "img2dataset")
    table = pq.read_table(io.BytesIO(content))
    assert table.column_names == ["url", "caption", "key", "id", "score", "votes", *JUDGED, "image_path", "label"]
    assert table["id"].to_pylist() == [40, 3, 6, 17, 8]
    assert count == 5
    assert table["key"].to_pylist() == [f"00000000{row}" for row in range(5)]
    assert table["caption"].to_pylist()[1] == SPITEFUL
    for url, path in zip(table["url"].to_pylist(), table["image_path"].to_pylist(), strict=True):
        assert url.startswith("file:///")
        assert Path(unquote(urlsplit(url).path)) == (folder / "images" / path).resolve()


class Shelf:
    """Stands in for a catalog: `columns` of arrays by id; counts the tables that are read."""

    def __init__(self, n=0, source=None, **columns):
        self.n, self.picture_source, self.read = n, source or {}, 0
        self._table = pa.table({"id": pa.array(range(n or len(next(iter(columns.values()))))), **columns})

    def alive(self, ids):
        return np.ones(len(ids), np.bool_)

    def item_schema(self):
        return self._table.schema

    def item_table(self, ids, schema):
        self.read += 1
        return self._table.take(ids)


def test_a_url_goes_before_a_file_and_columns_keep_their_values_under_free_names():
    shelf = Shelf(
        url=["https://example.org/a b.jpg", None, " "],
        key=["k0", "k1", "k2"],
        score=[0.5, 0.25, None],
        item_score=[7, 8, 9],
        label=["dog", "cat", "cow"],
    )
    table = pq.read_table(io.BytesIO(made(ItemTable(shelf, ranked([0, 1, 2])), "img2dataset")[0])).to_pylist()
    assert table == [
        {
            **{"url": "https://example.org/a b.jpg", "caption": "dog", "key": "000000000"},
            **{"id": 0, "score": 3.0, "votes": 2, **JUDGED},
            **{"item_key": "k0", "item_item_score": 0.5, "item_score": 7, "label": "dog"},
        }
    ]


@given(
    st.lists(st.sampled_from(["id", "score", "key", "item_key", "item_item_key", "item_score", "b"]), unique=True),
    st.lists(st.sampled_from(["id", "score", "key"]), unique=True),
)
def test_free_names_are_free_and_distinct(names, taken):
    free = free_names(names, tuple(taken))
    assert len(set(free) | set(taken)) == len(names) + len(taken)
    assert all(new == name or name in taken for name, new in zip(names, free, strict=True))


def test_captions_are_those_that_the_page_shows():
    shelf = Shelf(url=["a:b"] * 3, caption=["", "words", None], label=["dog", "cat", None])
    table = pq.read_table(io.BytesIO(made(ItemTable(shelf, ranked([0, 1, 2])), "img2dataset")[0]))
    assert table["caption"].to_pylist() == ["dog", "words", None]
    assert CAPTIONS[0] == "caption"


# COCO


def test_coco_lists_the_pictures_that_can_be_read_with_their_sizes(matches, catalog, folder):
    content, count = made(matches, "coco")
    told = json.loads(content)
    assert set(told) == {"info", "licenses", "images", "annotations", "categories"}
    assert [image["id"] for image in told["images"]] == [40, 3, 17, 8]
    assert (count, told["info"]["left_out"]) == (4, 2)
    for image in told["images"]:
        assert set(image) == {"id", "file_name", "width", "height"}
        assert image["file_name"] == catalog.items([image["id"]])[0]["image_path"]
        with Image.open(folder / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])


def test_coco_takes_sizes_and_urls_from_the_columns_and_whole_paths_from_several_folders(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (30, 20)).save(tmp_path / name / "a.png")
    shelf = Shelf(
        source={"roots": {name: str(tmp_path / name) for name in ("one", "two")}},
        image_path=["a.png", "a.png", "../two/a.png"],
        input=["one", "two", "one"],
        width=[300, None, 1],
        height=[200, 4, 1],
        url=["https://example.org/1", None, None],
    )
    images = json.loads(made(ItemTable(shelf, ranked([0, 1, 2])), "coco")[0])["images"]
    assert images == [
        {"id": 0, "file_name": f"{tmp_path}/one/a.png", "width": 300, "height": 200, "coco_url": shelf_url(shelf)},
        {"id": 1, "file_name": f"{tmp_path}/two/a.png", "width": 30, "height": 20},
    ]


def shelf_url(shelf):
    return shelf._table["url"][0].as_py()


@pytest.mark.parametrize("format", ["coco", "links", "img2dataset", "zip"])
def test_a_catalog_without_pictures_says_so_before_anything_is_sent(format):
    with pytest.raises(UsageError, match="pictures in a folder"):
        FORMATS[format].write(ItemTable(Shelf(n=3), ranked([0, 1, 2])))


# Links


def unpacked(content, folder):
    (folder / "matches.tar").write_bytes(content)
    subprocess.run(["tar", "xf", "matches.tar"], cwd=folder, check=True, capture_output=True)
    return sorted((folder / "matches").iterdir())


def test_links_sort_best_first_and_lead_to_the_pictures(matches, tmp_path, folder):
    content, count = made(matches, "links")
    found = unpacked(content, tmp_path)
    assert count == len(found) == 5
    assert [link.name for link in found] == [
        f"{rank}_{item}_{item:05}.jpg" for rank, item in enumerate(PICKED, 1) if item not in (5, 9)
    ]
    assert all(link.is_symlink() and link.readlink() == (folder / "images/pictures" / link.name[-9:]) for link in found)


@given(name=st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=60))
def test_whatever_a_file_is_called_its_link_stays_in_the_folder_and_leads_to_it(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("odd")
    if name in (".", "..") or len(name.encode()) > 255:
        name = "..." + name[:50]
    (root / name).write_bytes(b"it")
    shelf = Shelf(source={"roots": {"": str(root)}}, image_path=[name, f"./{name}", "../" + name, "/etc/passwd"])
    matches = ItemTable(shelf, ranked([0, 1, 2, 3]))
    linked = root / "linked"
    assert export_items(matches, linked, "links") == 2
    assert [link.read_bytes() for link in sorted(linked.iterdir())] == [b"it"] * 2
    with tarfile.open(fileobj=io.BytesIO(made(matches, "links")[0])) as tar:
        members = tar.getmembers()[1:]
    assert [member.name for member in members] == [f"matches/{link.name}" for link in sorted(linked.iterdir())]
    for rank, member in enumerate(members, 1):
        assert member.name.startswith(f"matches/{rank}_{rank - 1}_")
        assert set(member.name.removeprefix("matches/")).isdisjoint("/'\"\n\t $`;|&<>*?\\")
        assert Path(member.linkname).read_bytes() == b"it"


def test_coco_names_a_file_where_it_is_after_a_sync(tmp_path):
    names = ["a.png", "b.png", "c.png", "d.png"]
    folder = draw_all(tmp_path / "in", names)
    (folder / "l.png").symlink_to("d.png")
    ingest([folder], tmp_path / "c", embedder=Pixels())
    (folder / "sub").mkdir()
    (folder / "a.png").rename(folder / "sub/z.png")
    sync(tmp_path / "c", [folder], embedder=Pixels())
    catalog = Catalog.open(tmp_path / "c")
    content, _ = made(ItemTable(catalog, ranked(range(catalog.n))), "coco")
    found = {image["id"]: image["file_name"] for image in json.loads(content)["images"]}
    before = {item["id"]: item["image_path"] for item in catalog.items(range(catalog.n))}
    assert found == before | {0: "sub/z.png"}
    assert all((folder / name).is_file() for name in found.values())


# ZIP files of pictures


def zipped(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_zip_holds_the_pictures_as_they_are_and_lists_those_that_cannot_be_read(matches, folder):
    content, count = made(matches, "zip")
    found = zipped(content)
    told = found.pop("left-out.txt").decode().splitlines()
    assert [line.split("\t")[:2] for line in told] == [["5", "pictures/00005.jpg"], ["6", "pictures/00006.jpg"]]
    assert [line.split("\t")[2] for line in told] == [
        "there is no file of its picture",
        "not a picture of a known format (JPEG, PNG, WEBP, GIF, TIFF, BMP, AVIF, HEIF, JXL)",
    ]
    assert count == len(found) == 4
    assert list(found) == [
        f"matches/{rank}_{item}_{item:05}.jpg" for rank, item in enumerate(PICKED, 1) if item not in (5, 6, 9)
    ]
    for name, picture in found.items():
        assert picture == (folder / "images/pictures" / name[-9:]).read_bytes()
    assert content == made(matches, "zip")[0]


def test_other_programs_unpack_a_zip(matches, tmp_path):
    (tmp_path / "matches.zip").write_bytes(made(matches, "zip")[0])
    shutil.unpack_archive(tmp_path / "matches.zip", tmp_path)
    assert len(list((tmp_path / "matches").iterdir())) == 4
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tq", "matches.zip"], cwd=tmp_path, check=True, capture_output=True)


def test_a_zip_is_made_in_parts_of_a_megabyte_and_never_holds_a_picture_as_a_whole(tmp_path):
    picture = picture_of_bytes(tmp_path / "large.png", 5 << 20)
    shelf = Shelf(source={"roots": {"": str(tmp_path)}}, image_path=["large.png"] * 3)
    chunks = list(FORMATS["zip"].write(ItemTable(shelf, ranked(range(3)))))
    assert max(map(len, chunks)) < (1 << 20) + 1000
    assert [len(content) for content in zipped(b"".join(chunks)).values()] == [len(picture)] * 3


def picture_of_bytes(path, size):
    """Write a small PNG with bytes behind it, which its readers ignore; return the content."""
    Image.new("RGB", (8, 8)).save(path)
    path.write_bytes(path.read_bytes() + bytes(size))
    return path.read_bytes()


def test_a_picture_that_fails_amid_its_bytes_is_told_and_the_others_are_whole(tmp_path, monkeypatch):
    picture = picture_of_bytes(tmp_path / "a.png", 10)
    shelf = Shelf(source={"roots": {"": str(tmp_path)}}, image_path=["a.png"] * 3)
    read, asked = zip_file._chunks, []

    def chunks(file, size_bytes):
        asked.append(file)
        yield picture[:20]
        if len(asked) == 2:
            raise OSError(5, "Input/output error")
        file.seek(20)
        yield from read(file, size_bytes - 20)

    monkeypatch.setattr(zip_file, "_chunks", chunks)
    content, count = made(ItemTable(shelf, ranked(range(3))), "zip")
    found = zipped(content)
    assert count == 2
    assert found.pop("left-out.txt").decode().startswith("1\ta.png\tthe copy is incomplete")
    assert [len(each) for each in found.values()] == [len(picture), 20, len(picture)]


@given(name=st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=60))
def test_whatever_a_file_is_called_its_name_in_a_zip_is_safe_and_unique(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("odd")
    if name in (".", "..") or len(name.encode()) > 255:
        name = "..." + name[:50]
    picture = picture_of_bytes(root / "it.png", 1)
    (root / "it.png").rename(root / name)
    shelf = Shelf(source={"roots": {"": str(root)}}, image_path=[name, f"./{name}", "../" + name, "/etc/passwd"])
    found = zipped(made(ItemTable(shelf, ranked(range(4))), "zip")[0])
    assert [line[0] for line in found.pop("left-out.txt").decode().splitlines()] == ["2", "3"]
    assert list(found.values()) == [picture] * 2
    for rank, entry in enumerate(found, 1):
        assert entry.startswith(f"matches/{rank}_{rank - 1}_")
        assert set(entry.removeprefix("matches/")).isdisjoint("/'\"\n\t $`;|&<>*?\\")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_file_that_vanishes_while_a_zip_is_made_does_not_end_it(tmp_path, monkeypatch, number):
    for name in "ab":
        picture_of_bytes(tmp_path / f"{name}.png", 10)
    shelf = Shelf(source={"roots": {"": str(tmp_path)}}, image_path=["a.png", "b.png"])
    before, opened = Picture.open, []

    def vanishing(picture):
        opened.append(picture)
        file = before(picture)
        if len(opened) == number:  # the last one is the one that is read
            picture.path.unlink()
        return file

    monkeypatch.setattr(Picture, "open", vanishing)
    content, count = made(ItemTable(shelf, ranked(range(2))), "zip")
    found = zipped(content)
    assert (count, "left-out.txt" in found) == ((2, False) if number == 3 else (1, True))
    assert "matches/2_1_b.png" in found


def test_a_file_that_vanishes_while_the_size_of_a_zip_is_estimated_counts_nothing(tmp_path, monkeypatch):
    shelf = Shelf(source={"roots": {"": str(tmp_path)}}, image_path=["a.png"])
    monkeypatch.setattr(zip_file, "picture_of", lambda source, item: Picture(tmp_path / "a.png", "a.png"))
    assert zip_file.estimate_zip(ItemTable(shelf, ranked([0]))).bytes < 1000


def test_the_size_of_a_zip_is_told_before_and_too_many_pictures_are_refused(matches, client, labels, monkeypatch):
    estimate, content = zip_file.estimate_zip(matches), made(matches, "zip")[0]
    assert estimate.pictures == 5  # of the one that is no picture a file is there
    assert abs(estimate.bytes - len(content)) < 0.2 * len(content)
    assert zip_file.estimate_zip(ItemTable(Shelf(n=3), ranked([0, 1, 2]))).pictures == 0
    at, answer = found_all(client, labels)
    told = client.get(f"{at}/pictures").json
    assert told["pictures"] in (answer["total"], answer["total"] - 1)
    with client.get(f"{at}/matches.zip") as sent:
        assert 0.8 < len(sent.data) / told["bytes"] < 1.2
    shown = {"session": at.rpartition("/")[2]}
    assert f"{told['pictures']} pictures, about 1 MB" in client.get("/export/zip", query_string=shown).text
    monkeypatch.setattr(zip_file, "MOST_PICTURES", 3)
    refused = client.get(f"{at}/matches.zip")
    assert refused.status_code == 422
    assert "expected at most 3 items" in refused.json["detail"]


# Original pictures


def test_the_original_of_a_picture_is_sent_with_safe_headers(client, folder):
    content = (folder / "images/pictures/00040.jpg").read_bytes()
    for address, kept in (
        ("/originals/40", "inline"),
        ("/originals/40?download=1", "attachment"),
        (f"{API}/items/40/picture", "attachment"),
    ):
        with client.get(address) as sent:
            assert (sent.status_code, sent.mimetype, sent.data) == (200, "image/jpeg", content)
            assert sent.headers["Content-Disposition"] == f"{kept}; filename=40_00040.jpg"
            assert sent.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in sent.headers["Content-Security-Policy"]
            assert sent.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            etag = sent.headers["ETag"]
    with client.get("/originals/40", headers={"If-None-Match": etag}) as same:
        assert same.status_code == 304
    with client.get("/originals/40", headers={"Range": "bytes=0-9"}) as part:
        assert (part.status_code, part.data) == (206, content[:10])
    for missing in (5, 6, 10**6, 2**62):
        assert client.get(f"/originals/{missing}").status_code == 404
        assert client.get(f"{API}/items/{missing}/picture").status_code == 404


@pytest.mark.parametrize("part", [False, True])
def test_an_original_that_vanishes_while_it_is_asked_for_is_not_found(client, tmp_path, monkeypatch, part):
    content = picture_of_bytes(tmp_path / "a.png", 10)
    picture = Picture(tmp_path / "a.png", "a.png", *((0, len(content)) if part else ()))
    monkeypatch.setattr(CatalogService, "original", lambda service, item: Original(picture, "a.png", "image/png"))
    with client.get("/originals/40") as sent:
        assert (sent.data, sent.content_length) == (content, len(content))
    picture.path.unlink()
    assert client.get("/originals/40").status_code == 404


@pytest.mark.parametrize(("kind", "sent"), [("PNG", "image/png"), ("WEBP", "image/webp"), ("GIF", "image/gif")])
def test_an_original_is_named_after_what_it_is_and_not_after_what_it_is_called(tmp_path, kind, sent):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos/page.png", kind)
    (tmp_path / "photos/page.png").rename(tmp_path / "photos/page.html.jpg")
    np.save(tmp_path / "photos.npy", np.eye(8, dtype=np.float32))
    catalog = Catalog.from_embeddings(
        tmp_path / "catalog",
        np.eye(8, dtype=np.float32),
        metadata={"image_path": ["page.html.jpg"] * 8},
        pictures=tmp_path / "photos",
    )
    service = CatalogService(catalog, open_backend("oracle", catalog))
    original = service.original(0)
    assert (original.media_type, original.name) == (
        sent,
        f"0_page.html{dict(PNG='.png', WEBP='.webp', GIF='.gif')[kind]}",
    )
    (tmp_path / "photos/page.html.jpg").write_text("<script>alert(1)</script>")
    with pytest.raises(DataError):
        service.original(0)
    service.close()


# Tables of unlike files


def test_columns_of_unlike_types_become_one_that_holds_them_all(tmp_path):
    tables = [
        {"id": [0, 1], "x": [2**53 + 1, 2], "y": [1, 2], "kind": pa.array(["a", "b"]).dictionary_encode()},
        {"id": [7, 9], "x": [0.5, None], "y": ["one", "two"], "kind": ["c", "d"], "more": [[1], [2, 3]]},
        {"id": [10], "y": [{"z": 1}]},
    ]
    paths = []
    for number, columns in enumerate(tables):
        paths.append(tmp_path / f"{number}.parquet")
        pq.write_table(pa.table(columns), paths[-1])
    schema = unified_schema(paths)
    assert [str(field.type) for field in schema] == ["int64", "double", "string", "string", "list<element: int64>"]
    ids = np.array([9, 4, 10, 0])
    parts = [(paths[0], np.array([0])), (paths[1], np.array([9])), (paths[2], np.array([10]))]
    assert read_table(parts, ids, schema).to_pylist() == [
        {"id": 9, "x": None, "y": "two", "kind": "d", "more": [2, 3]},
        {"id": 4, "x": None, "y": None, "kind": None, "more": None},
        {"id": 10, "x": None, "y": '{"z": 1}', "kind": None, "more": None},
        {"id": 0, "x": 2.0**53, "y": "1", "kind": "a", "more": None},
    ]
    assert read_table([], ids, schema)["id"].to_pylist() == ids.tolist()


TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["=1+1", "-3", "+x", "@a", "\t=", "\r=", "a,b", 'say "x"', "line\nline", "", "'", "a;=1+1", "\ufeff=1+1", " =1",
     'a; "=1+1', "a\t@x", "a\n=1", "a;\u200b-1", "x|+1", "a;;=1", '";=1', "a\r\n=1", "\u3000\uff1d1"]
)  # fmt: skip
SEPARATORS = ",;|\t"
FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
PASSED_OVER = " \t\r\n\"'\ufeff\u200b\u3000"


@given(st.lists(TEXTS, min_size=1, max_size=6), st.lists(st.integers(-9, 9), min_size=6, max_size=6))
def test_cells_are_no_formulas_and_else_as_they_are(texts, numbers):
    numbers = numbers[: len(texts)]
    shelf = Shelf(**{"=text": texts, "gap": numbers, "of": [[{"a": text}] for text in texts]})
    content = made(ItemTable(shelf, ranked(range(len(texts)))), "csv")[0].decode("utf-8-sig")
    header, *rows = csv.reader(io.StringIO(content, newline=""))
    assert header == ["id", "score", "votes", *JUDGED, "'=text", "gap", "of"]
    for row, text, number in zip(rows, texts, numbers, strict=True):
        told = json.loads(row[8])[0]["a"]
        assert row[7] == str(number)
        for cell in (row[6], told):
            assert cell.replace("'", "") == text.replace("'", "")
        if not set(text) & set(";|\t\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"):
            plain = not text.lstrip(PASSED_OVER)[:1] or text.lstrip(PASSED_OVER)[0] not in FORMULA
            assert told == text
            if plain and text.isprintable():
                assert row[6] == text


@given(TEXTS)
def test_no_cell_is_a_formula_whatever_separates_cells_where_it_is_read(text):
    content = made(ItemTable(Shelf(text=[text], of=[[text]]), ranked([0])), "csv")[0].decode()
    for separator, quoting in itertools.product(SEPARATORS, (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)):
        for row in csv.reader(io.StringIO(content, newline=""), delimiter=separator, quoting=quoting):
            for cell in row if (separator, quoting) != (",", csv.QUOTE_NONE) else []:
                begin = cell.lstrip(PASSED_OVER.replace("'", ""))[:1]
                assert begin == "" or begin not in FORMULA, (content, separator, quoting, cell)


# Any size


@pytest.mark.parametrize("format", [name for name, format in FORMATS.items() if not format.column])
def test_nothing_is_read_before_it_is_asked_for(format, monkeypatch, tmp_path):
    monkeypatch.setattr(walking, "BATCH_ROWS", 3)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    shelf = Shelf(source={"roots": {"": str(tmp_path)}}, image_path=["a.png"] * 30)
    chunks = FORMATS[format].write(ItemTable(shelf, ranked(range(30))))
    seen = [shelf.read for chunk in chunks if chunk]
    assert shelf.read == 10
    assert set(np.diff(seen)) <= {0, 1}
    assert seen[0] <= 1


MANY = """
import sys
import numpy as np, psutil, pyarrow as pa, pyarrow.compute as pc
from gpubranches import Ranking
from gpubranches.service.export import FORMATS, ItemTable

class Endless:
    picture_source = {}
    def alive(self, ids): return np.ones(len(ids), np.bool_)
    def item_schema(self): return pa.schema([("id", pa.int64()), ("caption", pa.string())])
    def item_table(self, ids, schema):
        texts = pc.binary_join_element_wise("x" * 80, pa.array(ids).cast(pa.string()), "")
        return pa.table([ids, texts], schema=schema)

def peak(n, format):
    ids = np.arange(n)
    matches = ItemTable(Endless(), Ranking(ids, ids.astype(np.float32), ids >= 0, n, n, 0.0))
    return max((process.memory_info().rss for chunk in FORMATS[format].write(matches)), default=0)

process = psutil.Process()
for format, n in (("parquet", 600_000), ("csv", 300_000)):
    few = peak(50_000, format)
    print(format, (peak(n, format) - few) >> 20)
"""


def test_many_matches_take_no_more_memory_than_some():
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown = dict(line.split() for line in done.stdout.splitlines())
    # Of the parquet the ranking has 8 MB, the columns 55; of the csv the text has 27.
    assert int(grown["parquet"]) < 45, grown
    assert int(grown["csv"]) < 15, grown


def test_rows_of_an_older_generation_are_sent_and_what_is_deleted_is_left_out(folder, tmp_path, monkeypatch, embedder):
    ingest([folder / "images"], tmp_path / "catalog")
    monkeypatch.setattr(walking, "BATCH_ROWS", 2)
    catalog = Catalog.open(tmp_path / "catalog")
    chunks = FORMATS["jsonl"].write(ItemTable(catalog, ranked([8, 7, 4, 3, 2, 1])))
    first = next(chunks)
    encode(tmp_path / "catalog", head="pca", d=8, quantizer="quantile")
    Catalog.open(tmp_path / "catalog").delete([7, 4, 2])
    Catalog.open(tmp_path / "catalog").compact()
    catalog.refresh()
    found = [json.loads(line) for line in (first + b"".join(chunks)).splitlines()]
    assert [row["id"] for row in found] == [8, 7, 3, 1]
    assert [row["score"] for row in found] == ranked(range(6)).scores[[0, 1, 3, 5]].tolist()


# Files and folders


@pytest.mark.parametrize(
    ("name", "format", "reader"),
    [
        ("a.csv", None, lambda path: path.read_text("utf-8-sig").startswith("id,score")),
        ("a.JSON", None, lambda path: len(json.loads(path.read_text())) == 6),
        ("a.coco.json", None, lambda path: len(json.loads(path.read_text())["images"]) == 4),
        ("a.img2dataset.parquet", None, lambda path: "key" in pq.read_schema(path).names),
        ("a.tar", None, tarfile.is_tarfile),
        ("a.tar", "links", tarfile.is_tarfile),
        ("a", "links", lambda path: len(list(path.iterdir())) == 5),
        ("a.ZIP", None, lambda path: len(zipfile.ZipFile(path).namelist()) == 5),
        ("a.csv", "jsonl", lambda path: json.loads(path.read_text().splitlines()[0])["id"] == 40),
    ],
)
def test_the_format_is_named_or_told_by_the_longest_ending(matches, tmp_path, name, format, reader):
    export_items(matches, tmp_path / name, format)
    assert reader(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_cannot_be_written_says_so_and_leaves_what_was_there(matches, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "file/out.csv", tmp_path / "nowhere/out.csv"):
        with pytest.raises(DataError, match="cannot write"):
            export_items(matches, path)
    for path in (tmp_path / "full", tmp_path / "file"):
        with pytest.raises(UsageError, match="empty or new folder"):
            export_items(matches, path, "links")
    with pytest.raises(UsageError, match=r"\.csv, \.parquet, \.json"):
        export_items(matches, tmp_path / "out.foo")
    with pytest.raises(UsageError, match="csv, parquet, json"):
        export_items(matches, tmp_path / "out.csv", "xls")
    assert export_items(matches, tmp_path / "empty", "links") == 5
    monkeypatch.setattr(ItemTable, "_read", lambda *_: 1 / 0)
    for path, format in ((tmp_path / "file", "csv"), (tmp_path / "new", "links")):
        with pytest.raises(ZeroDivisionError):
            export_items(matches, path, format)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_can_be_named_by_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="cannot write"), atomic_folder(Path()):  # a folder in use gets no other
        pass
    assert list(tmp_path.parent.glob(".*.partial")) == []


def test_the_command_line_says_how_many_it_wrote_and_how_many_have_no_picture(folder, tmp_path):
    """Items 5 and 6 are asked for: one has no picture, the other one that cannot be read."""
    marks = ["refine", str(folder / "catalog"), "--positive", "4,5,6", "--model", "branch", "--where", "id < 7"]

    def run(*arguments):
        return CliRunner().invoke(cli, [*marks, "--no-second-stage", *map(str, arguments)])

    written = {"links": 1, "coco": 2, "img2dataset": 1, "zip": 2, "csv": 0}
    for format, lacking in written.items():
        done = run("--out", tmp_path / format, "--format", format)
        total = int(re.search(r"([0-9]+) of 700 items match", done.output)[1])
        assert f"Wrote {total - lacking} items to {tmp_path / format}" in done.output
        assert (f"; {lacking} have no picture." in done.output) == (lacking > 0)
    assert len(list((tmp_path / "links").iterdir())) == total - 1
    assert json.loads(run("--out", tmp_path / "a.jsonl", "--json").output)["written"] == total
    assert json.loads(run("--json").output)["written"] is None
    for wrong, says in ((["--out", "a.xls"], ".coco.json"), (["--format", "csv"], "--out")):
        refused = run(*wrong)
        assert isinstance(refused.exception, UsageError)
        assert says in str(refused.exception)


# Over HTTP


def test_every_format_is_sent_by_the_page_and_the_api_with_its_type_and_name(client, labels):
    at, _ = found_all(client, labels)
    ids = [match["id"] for match in client.get(f"{at}/results?limit=1000").json["results"]]
    shown = {"session": at.rpartition("/")[2]}
    offered = client.get(f"{API}/catalog").json["item_formats"]
    for table, name in (({name: FORMATS[name] for name in offered}, "matches"), (BOX_FORMATS, "boxes")):
        for format, told in table.items():
            with client.get(f"{at}/{name}.{format}") as sent:
                assert sent.mimetype == told.media_type
                base = f"matches-{len(ids)}" if name == "matches" else name
                assert sent.headers["Content-Disposition"] == f"attachment; filename={base}.{told.ending}"
                content = sent.data
            if format != "links":  # the time is in it
                assert client.get(f"/export/{name}.{format}", query_string=shown).data == content
            if (name, format) == ("matches", "jsonl"):
                assert [json.loads(line)["id"] for line in content.splitlines()] == ids
    assert NAMES[1].encode() in client.get(f"{at}/matches.csv").data
    assert client.get("/export/matches.exe", query_string=shown).status_code == 404
    assert client.get(f"{at}/matches.exe").status_code == 422


def test_boxes_are_a_query_and_arrays_with_the_votes_that_match(client, labels):
    at, _ = found_all(client, labels, second_stage=False)
    assert client.get(f"{at}/boxes.sql").text.endswith("votes >= 13;\n")
    assert client.get(f"{at}/boxes.json").json["min_votes"] == 13


def test_a_download_ends_where_its_client_does_and_makes_room_for_others(app, labels, monkeypatch):
    monkeypatch.setattr(walking, "BATCH_ROWS", 2)
    monkeypatch.setattr(limits, "DOWNLOADS_PER_SESSION", DOWNLOADS)
    monkeypatch.setattr(limits, "DOWNLOADS_PER_ADDRESS", DOWNLOADS)
    client = app.test_client()
    at, answer = found_all(client, labels)
    service, read = app.extensions["gpubranches"].service, []
    follower, newest = service.follower, service.catalog.snapshot
    reading = type(follower).reading

    @contextmanager
    def counted(self):
        with reading(self):
            read.append(threading.get_ident())
            yield

    monkeypatch.setattr(type(follower), "reading", counted)
    open_downloads = [client.get(f"{at}/matches.{format}") for format in list(FORMATS)[:DOWNLOADS]]
    assert {sent.status_code for sent in open_downloads} == {200}
    refused = client.get(f"{at}/matches.csv")
    assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (429, True)
    marking = client.post(f"{at}/marks", json={"ids": [9], "label": -1})
    assert marking.status_code == 200
    before = len(read)
    for sent in open_downloads:
        next(sent.iter_encoded())
        sent.close()
    assert len(read) - before <= len(open_downloads) < answer["total"] // 2
    service.catalog.delete([0])
    assert service.catalog.snapshot is not newest, "this thread reads the newest snapshot again"
    for _ in range(2 * DOWNLOADS):
        with client.get(f"{at}/matches.csv") as sent:
            assert sent.status_code == 200
    assert client.head(f"{at}/matches.csv").status_code == 200
    assert len(client.get(f"{at}/matches.jsonl").text.splitlines()) == answer["total"]


def test_no_session_and_no_address_holds_all_places_for_downloads(app, labels):
    client = app.test_client()
    sessions = [found_all(client, labels)[0] for _ in range(3)]
    begun = []

    def ask(session, address="10.0.0.1"):
        begun.append(client.get(f"{sessions[session]}/matches.csv", environ_base={"REMOTE_ADDR": address}))
        return begun[-1].status_code

    assert [ask(0), ask(0), ask(0)] == [200, 200, 429]
    assert ask(0, "10.0.0.2") == 429
    assert [ask(1), ask(1), ask(2)] == [200, 200, 429]
    assert [ask(2, "10.0.0.2"), ask(2, "10.0.0.2"), ask(2, "10.0.0.3")] == [200, 200, 429]
    for sent in begun:
        sent.close()
    assert app.extensions["gpubranches"].limits.downloads._free == DOWNLOADS
    assert not app.extensions["gpubranches"].limits.downloads._held


def test_a_client_that_does_not_read_loses_its_place_and_its_thread(app, labels, monkeypatch, caplog):
    monkeypatch.setattr("gpubranches.app.waitress_server.STALLED_S", 1)
    at, _ = found_all(app.test_client(), labels)
    endless = dataclasses.replace(FORMATS["csv"], write=lambda matches: itertools.repeat(bytes(1 << 20)))
    monkeypatch.setitem(FORMATS, "csv", endless)
    places, before = app.extensions["gpubranches"].limits.downloads, threading.active_count()
    with running(app) as (address, _), socket.create_connection(address) as stalled:
        stalled.sendall(f"GET {at}/matches.csv HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert stalled.recv(1) == b"H"
        assert places._free == DOWNLOADS - 1
        for _ in range(600):
            if places._free == DOWNLOADS:
                break
            time.sleep(0.1)
        assert places._free == DOWNLOADS
    assert threading.active_count() == before
    assert "Traceback" not in caplog.text


def test_a_stream_that_breaks_off_is_no_whole_file_to_its_client(app, labels, monkeypatch, caplog):
    """Over a socket: a reader that is told of a last chunk took a part for the whole."""
    monkeypatch.setattr(walking, "BATCH_ROWS", 8)
    at, _ = found_all(app.test_client(), labels)
    read = ItemTable._read

    def broken(self, rows):
        if rows[0]:
            raise DataError("the disk is gone")
        return read(self, rows)

    monkeypatch.setattr(ItemTable, "_read", broken)
    with running(app) as ((host, port), _), closing(http.client.HTTPConnection(host, port, timeout=20)) as connection:
        connection.request("GET", f"{at}/matches.jsonl")
        answer = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
    assert app.extensions["gpubranches"].limits.downloads._free == DOWNLOADS
    assert "the disk is gone" in caplog.text


def test_the_api_is_told_of_the_formats(client):
    at = begun(client)
    assert client.get(f"{API}/catalog").json["item_formats"] == [name for name in FORMATS if name != "intervals"]
    described = client.get(f"{API}/openapi.json").json["paths"][f"{API}/sessions/{{session}}/matches.{{format}}"]
    sent = described["get"]["responses"]["200"]["content"]
    assert set(sent) == {format.media_type for format in FORMATS.values()}
    assert client.get(f"{at}/matches.csv").status_code == 422
