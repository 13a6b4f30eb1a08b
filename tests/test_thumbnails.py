import io

import pytest
from PIL import Image

from gpubranches.catalog.pictures.decoding import upright_size
from gpubranches.catalog.pictures.image_files import Picture
from gpubranches.errors import DataError
from gpubranches.service.thumbnails import Thumbnails, version


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (400, 200), "red").save(path)
    return path


def test_thumbnails_in_memory_are_bounded(picture, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "gpubranches.service.thumbnails.thumbnail", lambda path, size: calls.append(path.name) or bytes(40)
    )
    held = Thumbnails(limit_bytes=100)
    for key in "abacac":
        held.get(key, picture.with_name(key), 320)
    assert calls == ["a", "b", "c"]
    held.get("b", picture.with_name("b"), 320)
    assert len(calls) == 4


def test_a_thumbnail_is_made_once_also_across_restarts(picture, tmp_path):
    made = Thumbnails(tmp_path / "cache").get("key", picture, 100)
    assert Image.open(io.BytesIO(made)).size == (100, 50)
    picture.unlink()
    assert Thumbnails(tmp_path / "cache").get("key", picture, 100) == made
    with pytest.raises(DataError):
        Thumbnails(tmp_path / "cache").get("other", picture, 100)


@pytest.mark.parametrize("at", [0, 1, 300, -1])
@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_one_that_a_crash_damaged_is_made_again(picture, tmp_path, at, damage):
    made = Thumbnails(tmp_path / "cache").get("key", picture, 100)
    (file,) = (tmp_path / "cache").rglob("*.jpg")
    whole = file.read_bytes()
    at %= len(whole)
    file.write_bytes(whole[:at] + (bytes(min(200, len(whole) - at)) + whole[at + 200 :] if damage == "zeros" else b""))
    assert file.read_bytes() != whole
    assert Thumbnails(tmp_path / "cache").get("key", picture, 100) == made
    assert file.read_bytes() == whole


def test_the_folder_is_bounded_and_the_oldest_go_first(picture, tmp_path):
    size = len(Thumbnails().get("0", picture, 100)) + 4
    held = Thumbnails(tmp_path / "cache", folder_bytes=64 * 2 * size)
    for key in range(400):
        held.get(str(key), picture, 100)
    files = list((tmp_path / "cache").rglob("*.jpg"))
    assert 64 <= len(files) <= 128
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    assert held._file("399").exists()


def test_a_folder_that_cannot_be_written_is_done_without(picture, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    held = Thumbnails(tmp_path / "file")
    assert held.get("key", picture, 100)
    assert "memory only" in caplog.text
    assert held.get("other", picture, 100)
    assert caplog.text.count("memory only") == 1


def test_the_version_changes_with_the_file(picture):
    first = version(Picture(picture, "x"))
    assert (
        len({first, *(version(Picture(picture, "x", **part)) for part in ({"row": 0}, {"start": 0, "size": 1}))}) == 3
    )
    Image.new("RGB", (40, 20)).save(picture)
    assert version(Picture(picture, "x")) != first != ""
    picture.unlink()
    assert version(Picture(picture, "x")) == version(None) == ""


def test_the_size_of_a_picture_is_that_of_the_upright_one(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert upright_size(tmp_path / "turned.jpg") == (20, 40)
    (tmp_path / "none.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="not a picture"):
        upright_size(tmp_path / "none.jpg")
