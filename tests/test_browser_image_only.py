"""The page over a catalog of a model of pictures alone, in a real Chromium."""

import numpy as np
import pytest
from browsing import Server, needs_chromium, shown
from models import write_onnx
from PIL import Image

from gpubranches.ingestion import ingest

pytestmark = [pytest.mark.browser, needs_chromium]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Pictures, of which every third is reddish, embedded by an ONNX graph."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    path = tmp_path_factory.mktemp("pictures")
    (path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        colour = np.array([230, 40, 40]) if number % 3 == 0 else np.array([40, 60, 200])
        pixels = np.clip(colour + rng.integers(-40, 41, (4, 4, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(path / f"photos/{number:03}.png")
    write_onnx(path / "model", texts=False)
    ingest([path / "photos"], path / "catalog", embedder=f"onnx:{path}/model", d=8)
    with Server(path / "catalog", f"onnx:{path}/model", "oracle") as running:
        yield running, path / "photos"


def test_words_are_refused_with_the_reason_and_a_picture_is_searched_by(chromium, server):
    running, photos = server
    page = chromium.new_page(base_url=running.address)
    page.goto("/")
    assert "No text model" in page.get_attribute("#q", "placeholder")
    page.fill("#q", "a red bicycle")
    page.press("#q", "Enter")
    page.wait_for_selector("[role=alert]:has-text('the model model reads pictures only')")
    page.set_input_files("#picture-file", photos / "003.png")
    page.wait_for_function("() => new URLSearchParams(location.search).get('q')?.startsWith('picture:')")
    page.wait_for_selector(".pick:focus")
    found = shown(page)
    assert found[0] == 3
    assert all(item % 3 == 0 for item in found[:15])
    page.close()
