"""Pictures of phones and cameras: known by their content, upright, bounded; a missing package is named."""

import io
import struct
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_ingest import Pixels
from test_picture_formats import pattern

from gpubranches import Catalog
from gpubranches.catalog.pictures import formats, jxl
from gpubranches.catalog.pictures.decoding import decoded_file, open_image, read_image, upright_size
from gpubranches.catalog.pictures.folders import find_pictures
from gpubranches.catalog.pictures.formats import FORMATS, PACKAGES, UPLOADS, format_of
from gpubranches.errors import BackendUnavailableError, DataError, UsageError
from gpubranches.ingestion import append, build_catalog
from gpubranches.service.thumbnails import thumbnail

TURNED = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
"""Formats whose pictures Pillow writes with an orientation."""


def saved(format, image, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def halves():
    """Return a picture of 64 x 32 pixels, black at its left and white at its right half."""
    return Image.fromarray(np.repeat([[[0] * 3] * 32 + [[255] * 3] * 32], 32, 0).astype(np.uint8))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_recognised_by_its_content_in_a_file_of_any_name(tmp_path, format):
    content = saved(format, pattern())
    assert format_of(io.BytesIO(content)) == format
    for name in ("x.jpg", "no ending"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "x.txt").write_bytes(content)
    found = find_pictures(tmp_path)
    assert [name for name, _ in found.pictures] == ["no ending", "x.jpg"]
    assert found.skipped() == ["1 file: 1 .txt"]
    for name in ("x.jpg", "no ending"):
        assert open_image(tmp_path / name).size == (32, 32)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", TURNED)
def test_turned_pictures_are_upright_and_their_size_too(tmp_path, format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "x").write_bytes(saved(format, halves(), exif=exif.tobytes()))
    image = open_image(tmp_path / "x")
    assert image.size == upright_size(tmp_path / "x") == ((64, 32) if orientation < 5 else (32, 64))
    first = np.asarray(image.convert("L").resize((2, 1) if orientation < 5 else (1, 2))).ravel() > 127
    assert first.tolist() == ([False, True] if orientation in (1, 4, 5, 6) else [True, False])


@pytest.mark.parametrize(("width", "height"), [(8, 8), (256, 256), (640, 480), (37, 1), (1, 700), (1920, 1080)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_the_size_of_a_jxl_is_read_from_its_header(width, height, mode):
    image = Image.new(mode, (width, height))
    for options in ({}, {"use_container": True}, {"lossless": True}):
        header = jxl.read_header(io.BytesIO(saved("JXL", image, effort=1, **options)), "x")
        assert (header.size, header.upright, header.orientation) == ((width, height),) * 2 + (1,)
        assert header.extra == (mode == "RGBA")


@given(st.binary(max_size=80))
def test_no_header_of_a_jxl_ends_in_anything_but_a_size_or_a_sentence(data):
    for content in (b"\xff\x0a" + data, b"\0\0\0\x0cJXL \r\n\x87\n" + data, data):
        try:
            assert len(jxl.read_header(io.BytesIO(content), "x").size) == 2
        except DataError as error:
            assert str(error).startswith("x: the ")  # noqa: PT017


def jxl_bomb(width, height):
    """Return the beginning of a JPEG XL whose header says a size."""

    def side(value):
        return 3, 2, value - 1, 30  # the widest distribution

    bits, at = 0, 0
    for value, count in ((0, 1), side(height)[:2], side(height)[2:], (0, 3), side(width)[:2], side(width)[2:], (1, 1)):
        bits |= value << at
        at += count
    return b"\xff\x0a" + bits.to_bytes(16, "little") + bytes(100)


def test_bombs_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    monkeypatch.setattr("pillow_jxl.JpegXLImagePlugin.Decoder", lambda **_: pytest.fail("it was decoded"))
    wide = struct.pack("<2sIHHIIiiHHIIIIII", b"BM", 60, 0, 0, 54, 40, 12_000, 12_000, 1, 24, 0, 0, 0, 0, 0, 0)
    tags = [
        (256, 3, 64),
        (257, 3, 64),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, 1),
        (322, 4, 60_000),
        (323, 4, 60_000),
        (324, 4, 8),
        (325, 4, 9),
    ]
    tiles = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    tiles += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags) + bytes(4)
    for content, says in [
        (jxl_bomb(100_000, 10), "a side of more than"),
        (jxl_bomb(20_000, 20_000), "over 100,000,000 pixels"),
        (jxl_bomb(9_000, 9_000), "takes 1,.* MB of memory"),
        (wide, "over 100,000,000 pixels"),
        (tiles, "takes 3,.* MB of memory"),
    ]:
        with pytest.raises(DataError, match=says), decoded_file(io.BytesIO(content), "x"):
            pass


def test_uploads_keep_to_the_formats_of_browsers():
    for format in FORMATS:
        content = saved(format, pattern())
        if format in UPLOADS:
            assert read_image(content).size == (32, 32)
        else:
            with pytest.raises(UsageError, match=r"not a picture of a known format .*; send a JPEG, PNG, WebP or GIF"):
                read_image(content)


def test_a_folder_of_a_phone_is_ingested_and_shown_as_jpeg(tmp_path):
    for row, format in enumerate(FORMATS):
        colour = Image.new("RGB", (40, 30), (25 * row, 90, 200))
        (tmp_path / f"in/{row}{FORMATS[format][0]}").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/{row}{FORMATS[format][0]}").write_bytes(saved(format, colour))
    (tmp_path / "in/9.heic").write_bytes(saved("HEIF", pattern())[:300])
    report = build_catalog([tmp_path / "in"], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.errors) == (len(FORMATS), 1)
    (error,) = Catalog.open(tmp_path / "c").errors()
    assert error["path"] == "9.heic"
    for path in (tmp_path / "in").iterdir():
        if path.name != "9.heic":
            assert thumbnail(path).startswith(b"\xff\xd8\xff")


@contextmanager
def without_packages():
    """Hide the packages of the extra."""
    remembered = (formats.is_decodable, formats.register)
    with pytest.MonkeyPatch.context() as hidden:
        for module in ("pillow_heif", "pillow_jxl"):
            hidden.setitem(sys.modules, module, None)
        hidden.setattr("importlib.util.find_spec", lambda name: None)
        for function in remembered:
            function.cache_clear()
        yield
    for function in remembered:
        function.cache_clear()


def test_without_the_extra_its_pictures_wait_for_it(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pattern().save(folder / "a.png")
    (folder / "b.heic").write_bytes(saved("HEIF", pattern()))
    (folder / "c.jpg").write_bytes((folder / "b.heic").read_bytes())
    with without_packages():
        report = build_catalog([folder], tmp_path / "c", embedder=Pixels())
        assert not any(formats.is_decodable(name) for name in PACKAGES)
        with pytest.raises(BackendUnavailableError, match=r"pillow-jxl-plugin.*\[formats\]"):
            formats.register("JXL")
    assert (report.n, report.errors) == (1, 1)
    assert "skipped 1 file: 1 .heic, which need pillow-heif: pip install 'gpubranches[formats]'" in report.notes[0]
    assert "pip install 'gpubranches[formats]'" in Catalog.open(tmp_path / "c").errors()[0]["reason"]
    assert append(tmp_path / "c", [folder], embedder=Pixels(), new=True).added == 1
