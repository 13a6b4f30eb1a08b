"""The addresses of clip-retrieval, asked as its client asks, and by its client itself.

The client is one module that needs requests alone, so it stands in tests/vendor: the package around it wants NumPy 1,
pyarrow 15 and all that its server needs.
"""

import base64
import json

import numpy as np
import pytest
from clusters import NAMES
from pictures import COLOURS
from serving import *  # noqa: F403
from serving import picture, running
from vendor.clip_client import ClipClient

AS_CLIENT = {
    "text": None,
    "image": None,
    "image_url": None,
    "embedding_input": None,
    "deduplicate": True,
    "use_safety_model": True,
    "use_violence_detector": True,
    "indice_name": "catalog",
    "use_mclip": False,
    "aesthetic_score": 9,
    "aesthetic_weight": 0.5,
    "modality": "image",
    "num_images": 12,
    "num_result_ids": 12,
}


def asked(client, **fields):
    """Ask as clip-retrieval's client does: JSON without a Content-Type."""
    answer = client.post("/knn-service", data=json.dumps(AS_CLIENT | fields))
    assert answer.status_code == 200, answer.text
    return answer.json


def test_a_text_finds_what_it_names(client, labels):
    found = asked(client, text="teapot", deduplicate=False)
    assert len(found) == 12
    assert (labels[[row["id"] for row in found]] == NAMES.index("teapot")).mean() > 0.9
    assert [set(row) for row in found] == [{"id", "similarity", "caption", "url"}] * 12
    similar = [row["similarity"] for row in found]
    assert similar == sorted(similar, reverse=True)
    assert -1 <= similar[-1] <= similar[0] <= 1
    with client.get(found[0]["url"].removeprefix("http://localhost")) as image:
        assert image.mimetype == "image/jpeg"


def test_a_picture_and_an_embedding_find_their_like(client, catalog, labels):
    sent = base64.b64encode(picture(COLOURS[2])).decode()
    assert (labels[[row["id"] for row in asked(client, image=sent)]] == 2).all()
    embedding = catalog.embeddings([17])[0].tolist()
    first = asked(client, embedding_input=embedding)[0]
    assert (first["id"], first["similarity"]) == (17, pytest.approx(1, abs=1e-3))


def test_more_ids_than_images_come_without_columns(client):
    found = asked(client, text="teapot", num_images=3, num_result_ids=9, deduplicate=False)
    assert ["caption" in row for row in found] == [True] * 3 + [False] * 6


def test_alike_items_come_once(client, catalog, monkeypatch):
    embeddings = type(catalog).embeddings

    def doubled(self, ids):
        found = embeddings(self, ids)
        found[1::2] = found[::2][: len(found[1::2])]
        return found

    whole = [row["id"] for row in asked(client, text="teapot", deduplicate=False)]
    monkeypatch.setattr(type(catalog), "embeddings", doubled)
    unlike = [row["id"] for row in asked(client, text="teapot")]
    assert set(unlike) <= set(whole[::2])
    assert unlike[0] == whole[0]


def test_names_and_columns(client, catalog):
    assert client.get("/indices-list").json == ["catalog"]
    body = json.dumps({"ids": [5, 3], "indice_name": "catalog"})
    told = client.post("/metadata", data=body).json
    assert told == [{"id": item, "metadata": catalog.items([item])[0]} for item in (5, 3)]


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, "one of text, image"),
        ({"text": "teapot", "indice_name": "laion5B"}, "indices-list"),
        ({"text": "teapot", "modality": "text"}, "one of image"),
        ({"text": "teapot", "use_mclip": True}, "use_mclip"),
        ({"text": "teapot", "num_images": 10**9}, "num_images"),
        ({"text": "teapot", "num_images": "many"}, "num_images"),
        ({"image_url": "http://169.254.169.254/"}, "does not fetch URLs"),
        ({"image": "no base64!"}, "base64"),
        ({"image": base64.b64encode(b"nothing").decode()}, "not a picture"),
        ({"embedding_input": [1, 2, 3]}, "vector"),
        ({"embedding_input": "abc"}, "a list"),
    ],
)
def test_what_cannot_be_answered_says_so(client, fields, part):
    refused = client.post("/knn-service", data=json.dumps(AS_CLIENT | fields))
    assert (refused.status_code, part in refused.json["detail"]) == (422, True), refused.text


@pytest.mark.parametrize("data", [b"[]", b"3", b"{", b"\xff", b""])
def test_bytes_that_are_no_question_are_refused(client, data):
    for path in ("/knn-service", "/metadata"):
        assert client.post(path, data=data).status_code == 422
    assert client.post("/metadata", data=b"{}").status_code == 422
    assert client.post("/knn-service", data=data, content_type="text/plain").status_code == 415


@pytest.mark.parametrize("token", [None, "a-token-of-the-tests-alone"])
def test_the_client_of_clip_retrieval_is_answered(make, catalog, labels, tmp_path, token):
    with running(make(token=token)) as ((host, port), _):
        carried = f"any:{token}@" if token else ""
        url = f"http://{carried}{host}:{port}/knn-service"
        client = ClipClient(url, "catalog", num_images=9, deduplicate=False)
        found = client.query(text="teapot")
        assert (labels[[row["id"] for row in found]] == NAMES.index("teapot")).mean() > 0.8
        assert {"id", "similarity", "url", "caption"} <= set(found[0])
        (tmp_path / "seen.png").write_bytes(picture(COLOURS[3]))
        seen = client.query(image=str(tmp_path / "seen.png"))
        assert (labels[[row["id"] for row in seen]] == 3).all()
        near = client.query(embedding_input=catalog.embeddings([17])[0].tolist())
        assert near[0]["id"] == 17
        assert np.isfinite([row["similarity"] for row in near]).all()
