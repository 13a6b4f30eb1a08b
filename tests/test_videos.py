"""Videos become frames: each is embedded, found, shown and exported; broken videos have a reason."""

import csv
import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from input_files import GREYS, write_video
from test_export import ranked
from test_ingest import Pixels

from gpubranches import Catalog, Session, open_backend
from gpubranches.app import create_app
from gpubranches.catalog.pictures import frames
from gpubranches.catalog.pictures.decoding import open_image, upright_size
from gpubranches.catalog.pictures.frames import clock, duration, open_frame
from gpubranches.catalog.pictures.image_files import Picture, picture_of
from gpubranches.errors import BackendUnavailableError, DataError, UsageError
from gpubranches.ingestion import append, build_catalog, ingest, sync
from gpubranches.service.export import ItemTable, zip_file
from gpubranches.service.thumbnails import Thumbnails, version

av = pytest.importorskip("av", reason="PyAV is not installed")


def grey(image):
    return float(np.asarray(image.convert("L")).mean())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos")
    write_video(path / "one.mp4")
    write_video(path / "trip/two.mkv", seconds=7.5, shift=2)
    write_video(path / "three.avi", seconds=0.3)
    return path


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    return ingest(folder, tmp_path_factory.mktemp("made") / "c", embedder=Pixels(), frames_every=1)


@pytest.mark.parametrize("name", ["one.mp4", "trip/two.mkv"])
def test_a_frame_is_that_of_its_time(folder, name):
    shift = 2 if "two" in name else 0
    for seconds in (0, 0.95, 1, 2.5, 3.99, 4):
        expected = GREYS[(int(seconds + 0.06) + shift) % 5]  # the first frame at or after it
        with open_frame(folder / name, seconds) as file, open_image_of(file) as image:
            assert abs(grey(image) - expected) < 8, seconds
            assert image.size == (64, 48)


def open_image_of(file):
    from PIL import Image

    return Image.open(file)


def test_behind_the_end_is_the_last_frame(folder):
    with open_frame(folder / "one.mp4", 100) as file, open_image_of(file) as image:
        assert abs(grey(image) - GREYS[4]) < 8
    assert duration(folder / "one.mp4") == pytest.approx(5, abs=0.11)


@pytest.mark.parametrize("ending", ["mkv", "avi"])
def test_a_video_that_was_cut_off_has_the_frames_that_are_there(tmp_path, ending):
    write_video(tmp_path / f"whole.{ending}", seconds=30)
    content = (tmp_path / f"whole.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(content[: len(content) // 3])
    assert duration(tmp_path / f"whole.{ending}") == pytest.approx(30, abs=0.11)
    with av.open(str(tmp_path / f"cut.{ending}")) as file:
        left = sum(1 for _ in file.decode(video=0)) / 10
    assert 1 < left < 15
    assert duration(tmp_path / f"cut.{ending}") == pytest.approx(left, abs=0.11)


def test_every_frame_is_an_item_that_shows_what_was_embedded(folder, made):
    items = made.items(range(made.n))
    assert [(item["video"], item["seconds"]) for item in items] == [
        *[("one.mp4", float(s)) for s in range(5)],
        ("three.avi", 0.0),
        *[("trip/two.mkv", float(s)) for s in range(8)],
    ]
    assert items[3]["title"] == "one.mp4 0:03"
    for item, row in zip(items, made.embeddings(range(made.n)), strict=True):
        picture = picture_of(made.source, item)
        assert not picture.is_file
        expected = Pixels().encode([Pixels().preprocess(open_image(picture))])[0]
        np.testing.assert_allclose(row.astype(np.float32), expected, atol=2e-3)


def test_each_frame_has_a_thumbnail_of_its_own(made):
    pictures = [picture_of(made.source, item) for item in made.items(range(5))]
    assert len({version(picture) for picture in pictures}) == 5
    cache = Thumbnails()
    for picture, expected in zip(pictures, GREYS, strict=True):
        with open_image_of(io.BytesIO(cache.get(version(picture), picture, 320))) as image:
            assert abs(grey(image) - expected) < 8


def test_the_sizes_of_a_page_of_frames_decode_one_frame_a_video(made, monkeypatch):
    pictures, opened = [picture_of(made.source, item) for item in made.items(range(5))], []
    frames._frame_size.cache_clear()
    monkeypatch.setattr(frames, "open_frame", lambda *args: opened.append(args) or open_frame(*args))
    assert {upright_size(picture) for picture in pictures} == {(64, 48)}
    assert len(opened) == 1


def test_a_zip_of_frames_holds_each_and_its_size_is_told_without_decoding_them(made, monkeypatch):
    table = ItemTable(made, ranked(range(made.n)))
    with monkeypatch.context() as patch:
        patch.setattr(Picture, "open", lambda picture: 1 / 0)
        told = zip_file.estimate_zip(table)
    content = b"".join(zip_file.write_zip(table))
    assert (told.pictures, 0.95 < told.bytes / len(content) < 1.05) == (made.n, True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        assert len(names) == made.n
        for name, item in zip(names, made.items(range(made.n)), strict=True):
            shift = 2 if "two" in item["video"] else 0
            with open_image_of(io.BytesIO(archive.read(name))) as image:
                assert abs(grey(image) - GREYS[int(item["seconds"] + shift) % 5]) < 8
            assert name.endswith(".bmp")


def test_matches_are_exported_as_intervals(made, tmp_path):
    session = Session(made, backend="oracle")
    session.mark([0, 1, 2, 4, 7], 1)
    session.mark([3, 5, 10], -1)
    session.find_all()
    session.export(tmp_path / "out.intervals.csv")
    with (tmp_path / "out.intervals.csv").open() as file:
        rows = list(csv.DictReader(file))
    ids = set(session.answer.matches.ids.tolist())
    assert {0, 1, 2, 4, 7} <= ids
    assert sum(int(row["frames"]) for row in rows) == len(ids)
    one = [(row["start"], row["end"], row["frames"]) for row in rows if row["video"] == "one.mp4"]
    assert one == [("0", "3", "3"), ("4", "5", "1")]


def test_intervals_need_videos(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32))
    session = Session(ingest(tmp_path / "x.npy", tmp_path / "c", d=8), backend="oracle")
    session.mark([0, 1], 1)
    session.find_all()
    with pytest.raises(UsageError, match="expected a catalog with frames of videos"):
        session.export(tmp_path / "out.intervals.csv")
    assert not (tmp_path / "out.intervals.csv").exists()


def test_broken_videos_have_a_reason_and_are_read_when_repaired(tmp_path):
    folder = tmp_path / "in"
    write_video(folder / "good.mp4")
    whole = (folder / "good.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mov").write_bytes(b"")
    (folder / "text.mkv").write_text("this is no video")
    (folder / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{folder}/good.mp4\n#EXT-X-ENDLIST\n")
    (folder / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {folder}/good.mp4\n")
    write_sound(folder / "sound.mp4")
    catalog = ingest(folder, tmp_path / "c", embedder=Pixels(), frames_every=2)
    reasons = {error["path"]: error["reason"] for error in catalog.errors()}
    assert len(reasons) == 6, reasons
    assert catalog.n == 3
    assert {item["video"] for item in catalog.items(catalog.sample_ids(3, np.random.default_rng(0)))} == {"good.mp4"}
    assert any("has no video" in reason for reason in reasons.values())
    write_video(folder / "empty.mov", seconds=2)
    report = build_catalog([folder], tmp_path / "c", embedder=Pixels(), frames_every=2)
    assert (report.added, report.errors) == (1, 5)


def write_sound(path):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        file.mux(stream.encode(frame))
        file.mux(stream.encode())


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\0\0\0\x18ftypmp42", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI ", b"OggS"]),
)
def test_no_bytes_of_a_video_end_in_a_traceback(tmp_path_factory, content, magic):
    path = tmp_path_factory.mktemp("odd") / "x.mp4"
    path.write_bytes(magic + content)
    for read in (duration, lambda path: open_frame(path, 1.0)):
        with pytest.raises(DataError):
            read(path)


def test_videos_beside_pictures_are_skipped_and_counted_and_can_be_given_alone(folder, tmp_path):
    from PIL import Image

    mixed = tmp_path / "phone"
    mixed.mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (80 * number, 9, 9)).save(mixed / f"{number}.png")
    (mixed / "one.mp4").write_bytes((folder / "one.mp4").read_bytes())
    report = build_catalog([mixed], tmp_path / "c", embedder=Pixels())
    assert report.n == 3
    assert any("1 .mp4" in note for note in report.notes)
    assert append(tmp_path / "c", [mixed / "one.mp4"], embedder=Pixels()).added == 1


def test_a_frame_that_is_too_large_is_refused(folder, monkeypatch):
    monkeypatch.setattr(frames, "MAX_FRAME_PIXELS", 1000)
    with pytest.raises(DataError, match="over 1,000 pixels"):
        open_frame(folder / "one.mp4", 0)


def test_the_time_between_frames_is_the_catalogs(tmp_path):
    write_video(tmp_path / "in/a.mp4")
    catalog = ingest(tmp_path / "in", tmp_path / "c", embedder=Pixels(), frames_every=2)
    assert catalog.n == 3
    write_video(tmp_path / "in/b.mp4", shift=1)
    assert append(tmp_path / "c", [tmp_path / "in"], embedder=Pixels(), new=True).added == 3
    (tmp_path / "in/a.mp4").rename(tmp_path / "in/c.mp4")
    report = sync(tmp_path / "c", [tmp_path / "in"], embedder=Pixels())
    assert (report.moved, report.n) == (3, 6)
    catalog = Catalog.open(tmp_path / "c")
    assert picture_of(catalog.source, catalog.items([1])[0]).path.name == "c.mp4"
    with pytest.raises(UsageError, match="--frames-every"):
        append(tmp_path / "c", [tmp_path / "in"], embedder=Pixels(), new=True, frames_every=1)
    write_video(tmp_path / "other/a.mp4")
    ingest(tmp_path / "other", tmp_path / "d", embedder=Pixels(), frames_every=2)
    with pytest.raises(UsageError, match="--frames-every"):
        build_catalog([tmp_path / "other"], tmp_path / "d", embedder=Pixels(), frames_every=1)


def test_a_missing_package_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(BackendUnavailableError, match=r"PyAV.*gpubranches\[video\]"):
        build_catalog([folder], tmp_path / "c", embedder=Pixels())
    assert not (tmp_path / "c/manifest.json").exists()


def test_a_server_without_the_package_shows_no_frames_and_goes_on(made, monkeypatch):
    client = create_app(made, open_backend("cpu", made)).test_client()
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    frames._frame_size.cache_clear()
    for address in ("/originals/0", "/thumbnails/small/0.jpg"):
        assert client.get(address).status_code == 404
    assert client.get("/random").status_code == 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (5, "0:05"),
        (7.5, "0:07.5"),
        (65, "1:05"),
        (3725, "1:02:05"),
        (0.04, "0:00.04"),
        (100 * 0.29, "0:29"),  # 28.999999999999996
        (59.9996, "1:00"),
        (36000.01, "10:00:00.01"),
    ],
)
def test_a_time_is_told_as_people_read_it(seconds, text):
    assert clock(seconds) == text


def test_the_command_ingests_videos(run, folder, tmp_path):
    code, out, _ = run("ingest", folder, "--out", tmp_path / "c", "--embedder", "demo", "--frames-every", "2.5")
    assert code == 0
    assert "6 items" in out
    assert os.path.exists(tmp_path / "c/manifest.json")


@pytest.mark.parametrize(("name", "codec"), [("a.avi", b"FMP4"), ("a.mkv", b"V_MPEG4/ISO/ASP")])
def test_a_video_of_an_unknown_codec_is_told_with_a_reason(tmp_path, name, codec):
    write_video(tmp_path / "in/b.mp4", seconds=2)
    write_video(tmp_path / "in" / name, seconds=2)
    content = (tmp_path / "in" / name).read_bytes()
    assert codec in content
    (tmp_path / "in" / name).write_bytes(content.replace(codec, b"?" * len(codec)))
    for frames_at in ("times", "scenes"):
        catalog = ingest(tmp_path / "in", tmp_path / frames_at, embedder=Pixels(), frames_every=1, frames_at=frames_at)
        (error,) = catalog.errors()
        assert name in error["path"]
        assert error["reason"]
