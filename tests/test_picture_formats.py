"""Which formats are decoded, at what size, and in how much memory."""

import io
import os
import resource
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from gpubranches import Catalog
from gpubranches.catalog.pictures import decoding
from gpubranches.catalog.pictures.decoding import (
    MAX_SIDE,
    decoded_file,
    open_image,
    read_image,
    upright_size,
)
from gpubranches.catalog.pictures.formats import ENDINGS, FORMATS, register
from gpubranches.errors import DataError, UsageError
from gpubranches.ingestion import build_catalog
from gpubranches.service.thumbnails import thumbnail


def pattern(width=32, height=32, mode="RGB"):
    rows = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(rows).convert(mode)


def written(format, mode="RGB"):
    buffer = io.BytesIO()
    pattern(mode=mode).save(buffer, format)
    return buffer.getvalue()


for name in FORMATS:
    register(name)


def others():
    """Return files of all formats that Pillow writes and the program does not read, by format."""
    Image.init()
    found = {}
    for format in sorted(set(Image.SAVE) - set(FORMATS) - {"MPO", "PDF", "DIB"}):
        for mode in ("RGB", "L", "1"):
            try:
                found[format] = written(format, mode)
                break
            except Exception:  # not this mode, or a library is missing
                continue
    return found


OTHERS = others()


def test_an_eps_of_any_name_starts_no_other_program(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    (tmp_path / "bin/gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # what it found before
    from test_ingest import Pixels

    folder = tmp_path / "in"
    folder.mkdir()
    for ending in ENDINGS:
        (folder / f"evil{ending}").write_bytes(OTHERS["EPS"])
    pattern().save(folder / "good.png")
    report = build_catalog([folder], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.errors) == (1, len(ENDINGS))
    assert all("not a picture of a known format" in error["reason"] for error in Catalog.open(tmp_path / "c").errors())
    for read in (open_image, upright_size, thumbnail):
        with pytest.raises(DataError):
            read(folder / "evil.jpg")
    with pytest.raises(UsageError, match="send a JPEG, PNG, WebP or GIF"):
        read_image(OTHERS["EPS"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("format", OTHERS)
def test_no_other_format_is_decoded_under_any_door(tmp_path, format):
    path = tmp_path / "x.jpg"
    path.write_bytes(OTHERS[format])
    for read in (open_image, upright_size, thumbnail):
        with pytest.raises(DataError, match=r"x\.jpg: "):
            read(path)
    with pytest.raises(UsageError):
        read_image(OTHERS[format])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_formats_are_decoded_under_each_ending(tmp_path, format, ending):
    if format == "WEBP" and not features.check("webp"):
        pytest.skip("Pillow without WebP")
    path = tmp_path / f"x{ending}"
    path.write_bytes(written(format))
    assert open_image(path).size == upright_size(path) == (32, 32)


def test_a_big_tiff_is_a_tiff(tmp_path):
    pattern().save(tmp_path / "x.tif", big_tiff=True)
    assert (tmp_path / "x.tif").read_bytes()[:4] == b"II+\0"
    assert open_image(tmp_path / "x.tif").size == upright_size(tmp_path / "x.tif") == (32, 32)


def test_a_pipe_or_folder_is_no_picture_and_nothing_hangs(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png", tmp_path / "nowhere"):
        with pytest.raises(DataError, match="cannot decode"):
            open_image(path)


def test_a_side_and_the_pixels_are_limited(tmp_path):
    Image.new("1", (MAX_SIDE + 1, 1)).save(tmp_path / "long.png")
    with pytest.raises(DataError, match=r"65536 x 1 has a side of more than 65,535 pixels"):
        open_image(tmp_path / "long.png")
    Image.new("1", (MAX_SIDE, 1)).save(tmp_path / "just.png")
    assert open_image(tmp_path / "just.png").size == (MAX_SIDE, 1)
    with pytest.raises(UsageError, match="over 50,000,000 pixels"):
        read_image(png(8000, 8000))


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "L", "RGBA", "P", "1", "I;16")),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_is_the_small_one_of_itself(tmp_path, monkeypatch, format, mode, orientation):
    """Made smaller by strips or by the decoder, it differs from itself resized by little."""
    ramp = np.linspace(0, 255, 150 * 100).reshape(100, 150)
    image = Image.fromarray(ramp.astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray((ramp * 257).astype(np.uint16))
    elif mode == "RGBA":
        image = Image.merge("RGBA", [image] * 4)
    else:
        image = image.convert(mode, dither=Image.Dither.NONE)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{format.lower()}"
    image.save(path, format, exif=exif)
    whole = open_image(path)
    monkeypatch.setattr(decoding, "WHOLE_PIXELS", 2_000)
    monkeypatch.setattr(decoding, "_STRIP_PIXELS", 450)
    small = open_image(path)
    assert small.width * small.height <= 2_000 * 1.2
    assert abs(small.width / small.height - whole.width / whole.height) < 0.1
    expected = np.asarray(whole.resize(small.size, Image.Resampling.BOX), np.float32)
    assert np.abs(np.asarray(small, np.float32) - expected).mean() < 4


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=1, colour=0):
    """Return a PNG of zeros; a row is never in memory more than once."""
    bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth
    row, packer = b"\0" + bytes(-(-width * bits // 8)), zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    palette = chunk(b"PLTE", bytes(3)) + chunk(b"tRNS", b"\0") if colour == 3 else b""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + chunk(b"IDAT", body) + chunk(b"IEND", b"")


MEASURED = """
import resource, sys
from pathlib import Path
from gpubranches.catalog.pictures.decoding import open_image, read_image
from gpubranches.service.thumbnails import thumbnail
path = Path(sys.argv[2])
data = path.read_bytes()
Path("/proc/self/clear_refs").write_text("5")
def held(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) // 1024
before = held("VmRSS")
{"open": open_image, "thumbnail": thumbnail}[sys.argv[1]](path) if sys.argv[1] != "read" else read_image(data)
print(held("VmHWM") - before)
"""


@pytest.mark.parametrize(
    ("read", "make", "most_mb"),
    [
        ("read", lambda: png(7000, 7000, 8, 3), 200),
        ("read", lambda: png(7000, 7000, 8, 6), 350),
        ("read", lambda: png(7000, 7000, 16, 0), 250),
        ("read", lambda: png(7000, 7000, 1, 0), 200),
        ("thumbnail", lambda: jpeg(10_000, 10_000), 60),
        ("open", lambda: jpeg(10_000, 10_000), 400),
    ],
)
def test_a_picture_takes_the_memory_of_its_pixels_and_little_more(tmp_path, read, make, most_mb):
    path = tmp_path / "x.jpg"
    path.write_bytes(make())
    done = subprocess.run([sys.executable, "-c", MEASURED, read, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < most_mb


def jpeg(width, height):
    buffer = io.BytesIO()
    Image.new("L", (width, height), 200).save(buffer, "JPEG")
    return buffer.getvalue()


WHOLE = [written(format) for format in FORMATS] + [written("PNG", mode) for mode in ("P", "1", "L", "RGBA")]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*WHOLE, *OTHERS.values()]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    st.integers(0, 10**6),
)
def test_no_bytes_of_a_picture_end_in_anything_but_a_picture_or_a_sentence(content, flips, cut):
    broken = bytearray(content)
    for at, value in flips:
        broken[at % len(broken)] = value
    broken = broken[: cut % len(broken)] if cut % 3 == 0 else broken
    try:
        with decoded_file(io.BytesIO(broken), "x", max_pixels=1_000_000) as image:
            assert image.mode == "RGB"
    except DataError as error:
        assert str(error).startswith("x: ") and "\n" not in str(error)  # noqa: PT017, PT018
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 << 20
