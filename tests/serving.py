"""A served world for the tests of the API: a catalog with pictures, and an embedder that reads pictures, too."""

from pathlib import Path

import numpy as np
import pytest
from clusters import NAMES
from pictures import COLOURS
from PIL import Image, ImageColor

from gpubranches import VocabularyEmbedder
from gpubranches.app import create_app

API = "/api/v1"
TOKEN = "a-token-of-the-tests-alone"


class SeeingEmbedder(VocabularyEmbedder):
    """Takes a picture for what has its colour in the middle."""

    reads_images = True

    def images(self, images):
        found = []
        for image in images:
            seen = np.array(image.getpixel((image.width // 2, image.height // 2)))
            gaps = [np.abs(seen - ImageColor.getrgb(colour)[:3]).sum() for colour in COLOURS[: len(NAMES)]]
            found.append(self.centres[int(np.argmin(gaps))])
        return np.array(found, np.float32)


def seeing(folder):
    """Return the embedder of a served world."""
    folder = Path(folder)
    opened = SeeingEmbedder.load(folder / "text/emb.npy", folder / "text/names.json")
    images, labels = np.load(folder / "images/img_emb/img_emb_0.npy").astype(np.float32), np.load(folder / "labels.npy")
    opened.centres = [images[labels == label].mean(axis=0) for label in range(len(NAMES))]
    return opened


@pytest.fixture(scope="module")
def embedder(folder):
    return seeing(folder)


@pytest.fixture
def make(catalog, backend, embedder):
    """Make apps that are shut at the end of the test."""
    made = []

    def app(**options):
        made.append(create_app(catalog, backend, embedder=embedder, **options))
        return made[-1]

    yield app
    for each in made:
        each.extensions["gpubranches"].service.close()


@pytest.fixture
def app(make):
    return make()


@pytest.fixture
def client(app):
    return app.test_client()


def picture(colour, size=(40, 30), kind="PNG"):
    import io

    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def begun(client, **body):
    return f"{API}/sessions/{client.post(f'{API}/sessions', json=body).json['session']}"


def found_all(client, labels, label=1, **body):
    """Return the address of a session that has found all of a label."""
    at = begun(client)
    ids = [row["id"] for row in client.post(f"{API}/search", json={"text": NAMES[label], "k": 60}).json["items"]]
    right = labels[ids] == label
    client.post(f"{at}/marks", json={"ids": np.array(ids)[right][:8].tolist(), "label": 1})
    client.post(f"{at}/marks", json={"ids": np.array(ids)[~right][:10].tolist(), "label": -1})
    answered = client.post(f"{at}/refine", json=body)
    assert answered.status_code == 200, answered.text
    return at, answered.json
