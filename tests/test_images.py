import io
import os

import numpy as np
import pytest
from PIL import Image

from gpubranches.catalog.pictures.decoding import open_image
from gpubranches.catalog.pictures.folders import find_pictures
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.core.files import escaped_path
from gpubranches.errors import DataError
from gpubranches.service.thumbnails import thumbnail


def picture(width=8, height=4, colour=(200, 30, 40)):
    return Image.new("RGB", (width, height), colour)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_common_formats_decode_to_rgb(tmp_path, format):
    picture().save(tmp_path / "p", format)
    image = open_image(tmp_path / "p")
    assert (image.mode, image.size) == ("RGB", (8, 4))
    assert np.abs(np.asarray(image)[0, 0].astype(int) - (200, 30, 40)).max() < 8


def test_an_exif_orientation_turns_the_picture_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(tmp_path / "p.jpg", exif=exif)
    assert open_image(tmp_path / "p.jpg").size == (4, 8)


def test_the_first_frame_of_a_gif_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(open_image(tmp_path / "p.gif"))[0, 0].tolist() == [255, 0, 0]


def test_cmyk_palette_transparency_and_16_bit_become_rgb(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    red = np.asarray(open_image(tmp_path / "cmyk.jpg"))[0, 0]
    assert red[0] > 200
    assert red[1:].max() < 60
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (np.asarray(open_image(tmp_path / "clear.png")) == 255).all()
    Image.new("P", (4, 4), 3).save(tmp_path / "palette.png")
    assert open_image(tmp_path / "palette.png").mode == "RGB"
    deep = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    levels = np.asarray(open_image(tmp_path / "deep.png"))[..., 0]
    assert (levels.min(), levels.max()) == (0, 255)
    assert (np.diff(levels.reshape(-1).astype(int)) > 0).all()


def test_broken_files_are_refused_with_a_short_reason(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(buffer, "JPEG")
    for name, content, says in [
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"not a picture", "not a picture"),
        ("cut.jpg", buffer.getvalue()[:500], "runcated"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=says):
            open_image(tmp_path / name)
    with pytest.raises(DataError, match="cannot decode"):
        open_image(tmp_path / "missing.jpg")
    picture(100, 100).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match="100 x 100 is over 9,999 pixels"):
        open_image(tmp_path / "bomb.png", max_pixels=9_999)


def test_the_listing_is_sorted_recursive_and_survives_odd_names(tmp_path):
    for name in ["b.JPG", "a/c.png", "a/.hidden.png", ".cache/x.jpg", "notes.txt", "a/new\nline.webp"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    with open(odd, "wb") as file:
        file.write(b"x")
    os.symlink(tmp_path, tmp_path / "loop")
    found = find_pictures(tmp_path)
    assert [escaped_path(name) for name, _ in found.pictures] == ["a/c.png", "a/new\nline.webp", "b.JPG", "\\xff.png"]
    assert found.skipped() == ["1 file: 1 .txt"]
    with pytest.raises(DataError, match="cannot read the folder"):
        find_pictures(tmp_path / "nowhere")


def test_links_to_themselves_and_names_that_no_file_has_are_no_pictures(tmp_path):
    for name, target in (("a.png", "b.png"), ("b.png", "a.png"), ("gone.png", "nowhere"), ("real.png", "sub/x.png")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/up").symlink_to(tmp_path)
    picture().save(tmp_path / "sub/x.png")
    found = find_pictures(tmp_path)
    assert found.pictures == [("real.png", str(tmp_path / "sub/x.png")), ("sub/x.png", "")]
    assert sorted(found.broken_links) == ["a.png", "b.png", "gone.png"]
    source = {"roots": {"": str(tmp_path)}}
    for name in ("a.png", "gone.png", "a\0.png", "x" * 5000, "sub/up/../../..", ""):
        assert image_file(source, {"image_path": name}) is None
    assert image_file(source, {"image_path": "sub/up/real.png"}) == tmp_path / "sub/x.png"


def test_a_thumbnail_is_a_small_jpeg_that_keeps_the_shape(tmp_path):
    picture(1000, 500).save(tmp_path / "p.png")
    small = Image.open(io.BytesIO(thumbnail(tmp_path / "p.png", 100)))
    assert (small.format, small.size) == ("JPEG", (100, 50))
