"""One budget of memory for all threads that decode pictures: what a picture takes is told before, waited for, held."""

import io
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from test_picture_formats import png, written

from gpubranches.catalog.pictures import decoding
from gpubranches.catalog.pictures.decoding import (
    decoded_file,
    decoded_path,
    decoded_upload,
    open_image,
    read_image,
    upright_size,
)
from gpubranches.catalog.pictures.memory import MemoryBudget
from gpubranches.errors import DataError, UsageError
from gpubranches.service.thumbnails import thumbnail

MEASURED = """
import json, sys, threading
from pathlib import Path
from gpubranches.catalog.pictures import decoding
from PIL import Image
from gpubranches.catalog.pictures.formats import FORMATS, register
from gpubranches.catalog.pictures.memory import MemoryBudget
from gpubranches.service.thumbnails import thumbnail
Image.init()
for format in FORMATS: register(format)
small, rounds, budget_bytes = json.loads(sys.argv[1])
decoding.PIXELS = MemoryBudget(budget_bytes)
told, share = [], decoding.PIXELS.share
decoding.PIXELS.share = lambda count, *rest: told.append(count) or share(count, *rest)
def held(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024
READS = {"open_image": decoding.open_image, "thumbnail": thumbnail}
thumbnail(small)
for together in rounds:
    told.clear()
    Path("/proc/self/clear_refs").write_text("5")
    before = held("VmRSS")
    threads = [threading.Thread(target=READS[read], args=(path,)) for read, path in together]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert len(told) == len(threads)
    print(held("VmHWM") - before, sum(told) / 2**20)
"""


@pytest.fixture
def measured(tmp_path):
    """Return a function: run rounds of reads side by side in another process; MB taken and estimated, a round."""
    Image.new("RGB", (64, 64)).save(tmp_path / "small.png")

    def measure(*rounds, budget_bytes=decoding.PIXELS.total_bytes):
        asked = json.dumps([str(tmp_path / "small.png"), rounds, budget_bytes])
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system
        command = [sys.executable, "-c", MEASURED, asked]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert not done.stderr
        return [tuple(float(value) for value in line.split()) for line in done.stdout.splitlines()]

    return measure


def test_threads_that_decode_large_pictures_stay_below_the_budget_together(tmp_path, measured):
    (tmp_path / "x.png").write_bytes(png(4_000, 4_000, 8, 4))
    Image.new("RGB", (4_000, 4_000)).save(tmp_path / "x.jpg", progressive=True, subsampling=0)
    Image.new("L", (4_000, 4_000)).save(tmp_path / "plain.jpg")
    names = ["x.png", "x.jpg", "x.png", *["plain.jpg"] * 3]
    ((taken, told),) = measured([("thumbnail", str(tmp_path / name)) for name in names], budget_bytes=320 << 20)
    assert told > 1.9 * 320, told  # side by side they would not fit
    assert taken < 320


KINDS = {
    "jpeg": ("RGB", "JPEG", {}),
    "grey jpeg": ("L", "JPEG", {}),
    "cmyk jpeg": ("CMYK", "JPEG", {}),
    "progressive jpeg": ("RGB", "JPEG", {"progressive": True}),
    "progressive jpeg of full colours": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "png": ("RGB", "PNG", {}),
    "transparent png": ("RGBA", "PNG", {}),
    "palette png": ("P", "PNG", {"transparency": 0}),
    "deep png": ("I;16", "PNG", {}),
    "gif": ("P", "GIF", {}),
    "webp": ("RGB", "WEBP", {"method": 0}),
    "lossless webp": ("RGBA", "WEBP", {"lossless": True, "method": 0}),
    "tiff": ("RGB", "TIFF", {}),
    "tiff of one strip": ("RGBA", "TIFF", {"compression": "tiff_deflate", "strip_size": 1 << 30}),
    "bmp": ("RGB", "BMP", {}),
    "avif": ("RGB", "AVIF", {"speed": 10}),
    "transparent avif": ("RGBA", "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
    "heif": ("RGB", "HEIF", {}),
    "lossless heif": ("RGBA", "HEIF", {"quality": -1, "chroma": 444}),
    "jxl": ("RGB", "JXL", {"effort": 1}),
    "lossless jxl": ("RGBA", "JXL", {"lossless": True, "effort": 1}),
}


def test_no_kind_takes_more_than_was_estimated(tmp_path, measured):
    asked = []
    for kind, (mode, format, options) in KINDS.items():
        exif = Image.Exif()
        exif[0x0112] = 6
        more = options if format in ("GIF", "BMP") else {"exif": exif.tobytes(), **options}
        Image.new(mode, (2_000, 2_000)).save(tmp_path / kind, format, **more)
        asked += [[(read, str(tmp_path / kind))] for read in ("open_image", "thumbnail")]
    (tmp_path / "apart").write_bytes(scans_apart(2_000, 2_000))
    assert open_image(tmp_path / "apart").size == (2_000, 2_000)
    asked.append([("thumbnail", str(tmp_path / "apart"))])
    for what, (taken, told) in zip(asked, measured(*asked), strict=True):
        assert taken < told + 2, (what, taken, told)  # what Python itself takes meanwhile
    assert taken > 18  # of the last one nearly all are coefficients


def scans_apart(width, height):
    """Return a JPEG of three components, each in a scan of its own, though not progressive."""
    buffer = io.BytesIO()
    Image.new("L", (width, height), 128).save(buffer, "JPEG")
    whole, segments, at = buffer.getvalue(), {}, 2
    while whole[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(whole[at + 2 : at + 4])
        segments.setdefault(whole[at + 1], []).append(whole[at:end])
        at = end
    data = whole[at + 2 + int.from_bytes(whole[at + 2 : at + 4]) : -2]
    frame = segments[0xC0][0]
    frame = b"\xff\xc0\0\x11" + frame[4:9] + b"\3" + b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3))
    scans = b"".join(b"\xff\xda\0\x08\x01" + bytes((number, 0)) + b"\0\x3f\0" + data for number in (1, 2, 3))
    return b"\xff\xd8" + b"".join(segments[0xDB]) + frame + b"".join(segments[0xC4]) + scans + b"\xff\xd9"


def test_who_came_first_goes_first_and_nobody_is_passed_by():
    budget, order, waiting = MemoryBudget(100), [], []

    def ask(count, name):
        with budget.share(count, name, "it"):
            order.append(name)

    with budget.share(60, "first", "it"):
        for count, name in ((90, "large"), (10, "small"), (10, "last")):
            thread = threading.Thread(target=ask, args=(count, name))
            thread.start()
            waiting.append(thread)
            while len(budget._queue) < len(waiting):
                thread.join(0.001)
        assert order == []  # the small ones would fit, the large one came before them
    for thread in waiting:
        thread.join(10)
    assert order[0] == "large"
    assert sorted(order) == ["large", "last", "small"]
    assert budget.free_bytes == 100


def test_what_never_fits_is_refused_in_one_sentence_and_takes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    Image.new("RGB", (600, 600)).save(path)
    sent = path.read_bytes()
    for budget, says in (("PIXELS", "decoding the picture takes 16 MB"), ("FILES", "reading the file takes 0 MB")):
        small = MemoryBudget(1_000)
        with monkeypatch.context() as patch:
            patch.setattr(decoding, budget, small)
            for read in (open_image, thumbnail):
                with pytest.raises(DataError, match=rf"x\.png: {says} of memory, over the 0 MB .*; make it smaller$"):
                    read(path)
            with pytest.raises(UsageError, match=f"image: {says} .*; send a JPEG"):
                read_image(sent)
        assert small.free_bytes == 1_000
    assert decoding.PIXELS.free_bytes == decoding.PIXELS.total_bytes
    assert decoding.FILES.free_bytes == decoding.FILES.total_bytes


def test_a_webp_of_67_megapixels_is_refused_by_its_header():
    header = (8_191 | 8_191 << 14).to_bytes(4, "little")
    body = b"VP8L" + (1_000).to_bytes(4, "little") + b"\x2f" + header + bytes(995)
    content = b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body
    says = r"^x: decoding the picture takes 1,\d+ MB of memory, over the 1,000 MB"
    with pytest.raises(DataError, match=says), decoded_file(io.BytesIO(content), "x"):
        pass


def test_the_share_is_held_while_the_picture_is_used_and_given_back_whatever_happens(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(written("PNG"))
    whole = decoding.PIXELS.total_bytes
    for use in (lambda: decoded_path(path), lambda: decoded_upload(path.read_bytes())):
        with use():
            assert decoding.PIXELS.free_bytes < whole
            assert decoding.FILES.free_bytes < decoding.FILES.total_bytes
        with pytest.raises(KeyError), use():
            raise KeyError("not the decoder's, so it stays what it is")
        assert decoding.PIXELS.free_bytes == whole
    jpeg = written("JPEG")
    for cut in range(0, len(jpeg) // 2, 7):
        with pytest.raises(UsageError):
            read_image(jpeg[:cut])
        assert decoding.PIXELS.free_bytes == whole
        assert decoding.FILES.free_bytes == decoding.FILES.total_bytes


def test_the_size_of_a_picture_is_read_without_decoding_it(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    turned = Image.Exif()
    turned[0x0112] = 6
    for format in ("JPEG", "PNG", "WEBP"):
        Image.new("RGB", (40, 20)).save(tmp_path / "x", format, exif=turned)
        assert upright_size(tmp_path / "x") == (20, 40)
        Image.new("RGB", (40, 20)).save(tmp_path / "x", format)
        assert upright_size(tmp_path / "x") == (40, 20)


def test_a_png_that_tells_its_orientation_after_its_pixels_is_upright_in_every_way(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "PNG", exif=exif)
    content = buffer.getvalue()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    (tmp_path / "x.png").write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    assert upright_size(tmp_path / "x.png") == open_image(tmp_path / "x.png").size == (20, 40)


def test_opaque_and_transparent_pictures_of_all_sizes_come_out_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "_STRIP_PIXELS", 64)
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 200), (200, 1), (37, 23)):
        pixels = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "x.png")
        white = Image.new("RGBA", (width, height), "white")
        expected = Image.alpha_composite(white, Image.fromarray(pixels)).convert("RGB")
        assert np.array_equal(np.asarray(open_image(tmp_path / "x.png")), np.asarray(expected))
