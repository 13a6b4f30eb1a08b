"""Frames at scene changes, and frames that lie close together, which are decoded in one pass."""

import csv

import numpy as np
import pytest
from input_files import write_video
from PIL import Image
from test_ingest import Pixels

from gpubranches import Session
from gpubranches.catalog.pictures import frames
from gpubranches.catalog.pictures.decoding import open_image
from gpubranches.catalog.pictures.frames import open_frame
from gpubranches.catalog.pictures.image_files import picture_of
from gpubranches.errors import DataError, UsageError
from gpubranches.ingestion import append, build_catalog, ingest, scenes, sync
from gpubranches.ingestion.pieces import FileState, Piece
from gpubranches.ingestion.scenes import scene_times
from gpubranches.ingestion.videos import VideoFrames

av = pytest.importorskip("av", reason="PyAV is not installed")

SCENES = (20, 20, 20, 200, 200, 60, 60, 60, 60, 60, 60, 60)
"""The grey of each second: cuts at 3 and at 5 seconds."""

SLOW = (10, 30, 50, 70, 90)
"""Greys so close that the encoder makes no keyframe at a change."""


@pytest.fixture
def counted(monkeypatch):
    """Return a list that gets each decoded frame's time."""
    found, decoded = [], frames.decoded

    def counting(container, stream):
        for frame in decoded(container, stream):
            found.append(frame.time)
            yield frame

    for module in (frames, scenes):
        monkeypatch.setattr(module, "decoded", counting)
    return found


def grey(file):
    with Image.open(file) as image:
        return np.asarray(image.convert("L")).mean()


def times_of(catalog):
    items = catalog.items(sorted(catalog.sample_ids(catalog.n, np.random.default_rng(0)).tolist()))
    return [(item["video"], item["seconds"]) for item in items]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_frames_are_the_first_of_each_scene_and_a_long_scene_has_several(tmp_path, ending):
    write_video(tmp_path / f"a.{ending}", seconds=12, greys=SCENES)
    assert scene_times(str(tmp_path / f"a.{ending}"), 100).tolist() == pytest.approx([0, 3, 5], abs=0.01)
    assert scene_times(str(tmp_path / f"a.{ending}"), 4).tolist() == pytest.approx([0, 3, 5, 9], abs=0.01)
    assert np.array_equal(scene_times(str(tmp_path / f"a.{ending}"), 4), scene_times(str(tmp_path / f"a.{ending}"), 4))


def test_flashes_and_movement_are_no_scenes(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (48, 300)).astype(np.uint8)
    noise = np.repeat(np.repeat(noise[::8, ::8], 8, 0), 8, 1)[:, :300]
    path = tmp_path / "moving.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(60):
            picture = np.full((48, 64), 255, np.uint8) if i in (20, 21) else noise[:, i : i + 64]
            frame = av.VideoFrame.from_ndarray(np.repeat(picture[:, :, None], 3, 2), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    found = scene_times(str(path), 100).tolist()
    assert found[0] == 0
    assert all(time == 0 or 1.9 <= time <= 2.3 for time in found), (
        found
    )  # the camera moves, only the flash may be found
    assert len(found) <= 2


def test_a_video_that_was_cut_off_has_the_scenes_that_are_there(tmp_path):
    write_video(tmp_path / "a.mkv", seconds=12, greys=SCENES)
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    found = scene_times(str(tmp_path / "cut.mkv"), 100).tolist()
    assert found == pytest.approx([0, 3, 5][: len(found)], abs=0.01)
    (tmp_path / "text.mkv").write_text("no video")
    with pytest.raises(DataError):
        scene_times(str(tmp_path / "text.mkv"), 100)


def test_scenes_are_items_and_are_looked_for_once(tmp_path, counted):
    folder = tmp_path / "in"
    write_video(folder / "a.mp4", seconds=12, greys=SCENES)
    write_video(folder / "b.mp4", seconds=2, greys=SCENES)
    (folder / "broken.mp4").write_text("no video")
    catalog = ingest(folder, tmp_path / "c", embedder=Pixels(), frames_at="scenes", frames_every=4)
    expected = [("a.mp4", 0.0), ("a.mp4", 3.0), ("a.mp4", 5.0), ("a.mp4", 9.0), ("b.mp4", 0.0)]
    assert times_of(catalog) == expected
    assert [error["path"] for error in catalog.errors()] == ["broken.mp4"]
    for item, row in zip(catalog.items(range(5)), catalog.embeddings(range(5)), strict=True):
        shown = Pixels().encode([Pixels().preprocess(open_image(picture_of(catalog.source, item)))])[0]
        np.testing.assert_allclose(row.astype(np.float32), shown, atol=2e-3)
    counted.clear()
    build_catalog([folder], tmp_path / "c", embedder=Pixels(), frames_at="scenes", frames_every=4)
    assert not sync(tmp_path / "c", [folder], embedder=Pixels()).did_anything
    assert counted == []
    write_video(folder / "new.mp4", seconds=4, greys=SCENES)
    assert append(tmp_path / "c", [folder], embedder=Pixels(), new=True).added == 2
    for file in (tmp_path / "c/scenes").iterdir():  # a damaged record is made again
        file.write_bytes(b"x")
    (folder / "a.mp4").rename(folder / "z.mp4")
    assert sync(tmp_path / "c", [folder], embedder=Pixels()).moved == 4
    with pytest.raises(UsageError, match="--frames-at"):
        build_catalog([folder], tmp_path / "c", embedder=Pixels(), frames_every=4)
    with pytest.raises(UsageError, match="--frames-at"):
        append(tmp_path / "c", [folder], embedder=Pixels(), new=True, frames_at="scenes")


def test_intervals_of_scenes_last_until_the_next_one(tmp_path):
    write_video(tmp_path / "a.mp4", seconds=12, greys=SCENES)
    catalog = ingest(tmp_path / "a.mp4", tmp_path / "c", embedder=Pixels(), frames_at="scenes", frames_every=4)
    session = Session(catalog, backend="oracle")
    session.mark([0, 1, 3], 1)
    session.mark([2], -1)
    session.find_all()
    session.export(tmp_path / "out.intervals.csv")
    with (tmp_path / "out.intervals.csv").open() as file:
        rows = [(row["start"], row["end"], row["frames"]) for row in csv.DictReader(file)]
    assert rows == [("0", "5", "2"), ("9", "13", "1")]


@pytest.mark.parametrize("ending", ["mp4", "avi"])
def test_close_frames_are_decoded_in_one_pass(tmp_path, counted, ending):
    path = tmp_path / f"a.{ending}"
    write_video(path, seconds=20, keyframes=200, greys=SLOW)
    catalog = ingest(path, tmp_path / "c", embedder=Pixels(), frames_every=0.1)
    assert catalog.n == 200
    assert len(counted) <= 200 + 20  # the decoder holds back a few frames at each of the keyframes
    for item, row in zip(catalog.items(range(0, 200, 23)), catalog.embeddings(range(0, 200, 23)), strict=True):
        with open_frame(path, item["seconds"]) as file, Image.open(file) as image:
            shown = Pixels().encode([Pixels().preprocess(image)])[0]
        np.testing.assert_allclose(row.astype(np.float32), shown, atol=2e-3)


def test_far_frames_are_each_decoded_from_their_keyframe(tmp_path, counted):
    write_video(tmp_path / "a.mp4", seconds=40, keyframes=10)
    assert ingest(tmp_path / "a.mp4", tmp_path / "c", embedder=Pixels(), frames_every=5).n == 8
    assert len(counted) <= 8 * 3


def test_frames_are_the_same_whichever_thread_asks_first(tmp_path, counted):
    path = tmp_path / "a.mp4"
    write_video(path, seconds=5, keyframes=50, greys=SLOW)
    videos = VideoFrames(str(tmp_path), 0.5)
    piece = Piece("a.mp4", (FileState.at(str(path)),), 0, videos.frames(str(path)))
    openers = list(videos.openers(piece, range(piece.rows)))
    found = {row: grey(openers[row].open()) for row in [7, 0, 3, 9, 8, *(1, 2, 4, 5, 6)]}
    assert [found[row] for row in range(10)] == pytest.approx([SLOW[row // 2] for row in range(10)], abs=4)
    assert len(counted) <= 50 + 5


@pytest.mark.parametrize("place", ["c/scenes", "c"])
def test_times_that_cannot_be_kept_are_no_fault_of_the_video(tmp_path, place):
    """A full disk once left a catalog in which the video counted as broken."""
    write_video(tmp_path / "in/a.mp4")
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        ingest(tmp_path / "in", tmp_path / "c", embedder=Pixels(), frames_at="scenes")
    path.unlink()
    catalog = ingest(tmp_path / "in", tmp_path / "c", embedder=Pixels(), frames_at="scenes")
    assert (catalog.n_errors, catalog.n > 0) == (0, True)


ODD_TIMES = {
    "none": np.zeros(0),
    "not numbers": np.array([0, np.nan]),
    "endless": np.array([0, np.inf]),
    "before the beginning": np.array([-1.0, 0]),
    "falling": np.array([0.0, 2, 1]),
    "twice": np.array([0.0, 1, 1]),
    "whole": np.array([0, 1]),
    "a table": np.zeros((2, 2)),
    "texts": np.array(["0"]),
}


@pytest.mark.parametrize("kind", ODD_TIMES)
def test_kept_times_that_are_none_are_looked_for_again(tmp_path, kind):
    write_video(tmp_path / "a.mp4")
    right, file = scenes.known_scene_times(str(tmp_path / "a.mp4"), 60, tmp_path / "scenes")
    scenes.keep_scene_times(file, ODD_TIMES[kind])
    found, unkept = scenes.known_scene_times(str(tmp_path / "a.mp4"), 60, tmp_path / "scenes")
    assert (found.tolist(), unkept) == (right.tolist(), file)
    scenes.keep_scene_times(file, found)
    assert scenes.known_scene_times(str(tmp_path / "a.mp4"), 60, tmp_path / "scenes")[1] is None
