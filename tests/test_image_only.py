"""A model of pictures alone: the page, the API, the session and the command line search by pictures and marks."""

from __future__ import annotations

import re
import sys
from html import unescape
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from PIL import Image

from gpubranches import Catalog, Session, cli, open_backend, open_embedder
from gpubranches.app import create_app
from gpubranches.encoders import registry
from gpubranches.errors import UsageError
from gpubranches.ingestion import append, ingest
from gpubranches.ingestion.train_head import train_head

HX = {"HX-Request": "true"}
SPEC = "colours:plain"


class Colours:
    """Embeds a picture as the colours of its four quarters."""

    name, dim, identity = "colours", 12, "v1"

    def preprocess(self, image):
        return np.asarray(image.resize((2, 2), Image.Resampling.BOX), np.float32).reshape(12)

    def images(self, batch):
        return np.stack(batch) - 100


def open_colours(name, device):
    return Colours()


@pytest.fixture(scope="module", autouse=True)
def brought():
    with pytest.MonkeyPatch.context() as patch:
        point = EntryPoint("colours", "test_image_only:open_colours", registry.GROUP)
        patch.setattr(registry, "entry_points", lambda group: [point])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, of which every third is reddish, and their catalog."""
    path = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for number in range(120):
        colour = np.array([230, 40, 40]) if number % 3 == 0 else np.array([40, 60, 200])
        pixels = np.clip(colour + rng.integers(-40, 41, (2, 2, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(_made(path / "photos") / f"{number:03}.png")
    ingest([path / "photos"], path / "catalog", embedder=SPEC, d=8)
    return path


def _made(folder):
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def client(folder):
    catalog = Catalog.open(folder / "catalog")
    with open_backend("oracle", catalog) as backend:
        yield create_app(catalog, backend, embedder=open_embedder(catalog.embedder)).test_client()


def shown(response):
    return [int(number) for number in re.findall(r'<li class="tile" id="tile-(\d+)"', response.text)]


def test_the_catalog_knows_its_model_and_has_no_mean_of_texts(folder):
    catalog = Catalog.open(folder / "catalog")
    assert (catalog.embedder, catalog.space.embedder, catalog.text_mean) == (SPEC, "colours:v1", None)
    assert append(folder / "catalog", [folder / "photos"], new=True).added == 0


def test_the_page_says_that_there_are_no_texts_and_searches_by_picture_and_marks(client, folder):
    page = client.get("/")
    assert 'placeholder="No text model' in page.text
    assert 'placeholder="What are you looking for?' not in page.text
    assert 'id="by-picture"' in page.text
    refused = client.get("/search?q=red", headers=HX)
    assert refused.status_code == 422
    assert "reads pictures only" in unescape(refused.text)
    photo, headers = (folder / "photos/000.png").read_bytes(), {**HX, "Accept": "application/json"}
    sent = client.post("/pictures", data=photo, content_type="image/png", headers=headers)
    found = shown(client.get("/search", query_string={"q": f"picture:{sent.json['name']}"}, headers=HX))
    assert found[0] == 0
    assert all(item % 3 == 0 for item in found[:30])
    client.post("/mark", data={"id": [0, 3, 6, 9], "value": "1"}, headers=HX)
    client.post("/mark", data={"id": [1, 2], "value": "-1"}, headers=HX)
    assert {item % 3 for item in shown(client.post("/refine", data={"second_stage": "1"}, headers=HX))} == {0}


def test_the_api_says_that_there_are_no_texts(client):
    assert client.get("/api/v1/catalog").json["texts"] is False


def test_a_session_searches_by_picture_and_marks_and_refuses_words(folder):
    with Session(Catalog.open(folder / "catalog")) as session:
        assert session.search(folder / "photos/003.png", 5).ids[0] == 3
        for query in ("red", "red + #3", "#3 - red"):
            with pytest.raises(UsageError, match="the model colours reads pictures only; search by a picture or by"):
                session.search(query, 5)
        assert session.search("#3 + #6 - #1", 5).ids[0] % 3 == 0
        session.mark([0, 3, 6, 9], +1)
        session.mark([1, 2], -1)
        assert {item % 3 for item in session.find_all().matches.ids.tolist()} == {0}


def test_the_command_line_says_so_in_one_sentence(folder, tmp_path, capsys, monkeypatch):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpubranches", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
            raise SystemExit(0)
        return stopped.value.code or 0, capsys.readouterr()

    code, told = call("ingest", folder / "photos", "--out", tmp_path / "new", "--embedder", SPEC, "--dims", 8)
    assert code == 0
    assert re.search(
        r"Pictures per second: [\d,]+ decoded, [\d,]+ embedded, each counted only while it was working", told.out
    )
    code, told = call("ingest", folder / "photos", "--out", tmp_path / "new", "--embedder", SPEC, "--dims", 8)
    assert "Pictures per second" not in told.out
    code, told = call("search", folder / "catalog", "red", "--backend", "oracle")
    assert code == 2
    assert told.err.count("\n") == 1
    assert "reads pictures only" in told.err
    code, told = call(
        "search", folder / "catalog", "--image", folder / "photos/006.png", "-k", 3, "--backend", "oracle"
    )
    assert code == 0
    assert " 6 " in told.out


def test_a_head_is_trained_without_texts(folder, tmp_path):
    pytest.importorskip("torch", reason="the [clip] extra is not installed")
    from gpubranches.encoders.heads import open_head
    from gpubranches.encoders.heads.settings import HeadSettings

    settings = HeadSettings(d=4, hidden=(16,), batch=32, epochs=1)
    train_head(folder / "catalog", tmp_path / "head.safetensors", settings=settings)
    head, fitted = open_head(str(tmp_path / "head.safetensors"), d=4)
    assert fitted
    assert head.texts is None
