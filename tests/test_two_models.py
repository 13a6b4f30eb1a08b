"""A catalog of two models: one embedding an item from both, fused searches, a second stage over both."""

import json
from importlib.metadata import EntryPoint

import numpy as np
import pyarrow.parquet as pq
import pytest
from cudasim import SimulatedDevice
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gpubranches import Catalog, Session, cli, open_backend, open_embedder
from gpubranches.app import create_app
from gpubranches.catalog.manifest import read_manifest
from gpubranches.core.arrays import unit
from gpubranches.core.options import RefineOptions
from gpubranches.core.tie_order import splitmix64
from gpubranches.core.whitening import Whitening
from gpubranches.encoders import registry
from gpubranches.encoders.joint import JointEmbedder, joined, split
from gpubranches.encoders.model_embedder import ModelEmbedder
from gpubranches.engines.gpu import GpuBackend
from gpubranches.engines.oracle import OracleBackend
from gpubranches.engines.sharded import LocalShard, ShardedBackend
from gpubranches.errors import GpuBranchesError, SpaceMismatchError, UsageError
from gpubranches.ingestion import append, ingest, sync
from gpubranches.ingestion.encode import encode
from gpubranches.learning.linear import folds_of
from gpubranches.learning.part_weights import part_scales
from gpubranches.retrieval.fusion import fuse
from gpubranches.service.merging import merge

HX = {"HX-Request": "true"}
SPECS = ["tones:t", "stripes:s"]
COLOURS = {"red": (220, 40, 40), "blue": (40, 40, 220)}
IMAGES = 160


class Tones:
    """Embeds a picture and the name of a colour as a colour."""

    name, dim, identity = "tones", 3, "v1"

    def preprocess(self, image):
        return np.asarray(image.resize((1, 1), Image.Resampling.BOX), np.float32).reshape(3)

    def images(self, batch):
        return np.stack(batch)

    def texts(self, texts):
        return np.array([COLOURS.get(text, (90, 100, 110)) for text in texts], np.float32)


class Stripes:
    """Embeds a picture as the brightness of a grid; reads no texts."""

    name, dim, identity = "stripes", 16, "v1"

    def preprocess(self, image):
        return np.asarray(image.convert("L").resize((4, 4), Image.Resampling.BOX), np.float32).reshape(16)

    def images(self, batch):
        return np.stack(batch) + 1


def open_tones(name, device):
    return Tones()


def open_stripes(name, device):
    return Stripes()


@pytest.fixture(scope="module", autouse=True)
def brought():
    with pytest.MonkeyPatch.context() as patch:
        points = [EntryPoint(kind, f"test_two_models:open_{kind}", registry.GROUP) for kind in ("tones", "stripes")]
        patch.setattr(registry, "entry_points", lambda group: points)
        yield


def draw(folder, numbers):
    """Draw pictures: even ones are red, others blue; of each four, two have vertical stripes, two horizontal ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rng = np.random.default_rng(number)
        colour = np.array(COLOURS["blue" if number % 2 else "red"]) + rng.integers(-30, 31, 3)
        bright = np.tile(np.repeat([0.5, 1.0], 8), 2)[:, None] * np.ones(32) * rng.uniform(0.8, 1)
        bright = (bright if number % 4 < 2 else bright.T) * np.kron(rng.uniform(0.9, 1, (4, 4)), np.ones((8, 8)))
        Image.fromarray(np.clip(bright[..., None] * colour, 0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures and their catalog."""
    path = tmp_path_factory.mktemp("two")
    draw(path / "photos", range(IMAGES))
    ingest([path / "photos"], path / "catalog", embedder=SPECS, d=8)
    return path


def wanted(ids):
    """Return which pictures are red and have horizontal stripes: neither model alone tells them apart."""
    return ids % 4 == 0


def test_an_item_has_an_embedding_of_each_model(folder):
    catalog = Catalog.open(folder / "catalog")
    assert split(catalog.embedder) == SPECS
    assert split(catalog.space.embedder) == ["tones:v1", "stripes:v1"]
    assert (catalog.parts, catalog.D) == ((slice(0, 3), slice(3, 19)), 19)
    rows = catalog.embeddings(np.arange(8))
    photos = [Image.open(folder / f"photos/{number:03}.png").convert("RGB") for number in range(8)]
    for spec, part in zip(SPECS, catalog.parts, strict=True):
        own = open_embedder(spec).images(photos)
        assert np.allclose(rows[:, part] * 2**0.5, own, atol=2e-3)
    both = open_embedder(catalog.embedder)
    assert both.texts(["red"])[0, 3:].tolist() == [0] * 16
    assert both.text_mean[3:].tolist() == [0] * 16
    assert np.allclose(catalog.text_mean, both.text_mean)
    assert catalog.info()["embedder"] == SPECS
    assert catalog.info()["parts"] == [3, 16]


def test_one_model_is_stored_as_before(folder, tmp_path):
    for number, embedder in enumerate(["stripes:s", ["stripes:s"]]):
        ingest([folder / "photos"], tmp_path / f"{number}", embedder=embedder, d=8)
        catalog = Catalog.open(tmp_path / f"{number}")
        assert "parts" not in read_manifest(catalog.path)
        assert (catalog.embedder, catalog.space.embedder, catalog.parts) == ("stripes:s", "stripes:v1", (slice(0, 16),))
        assert catalog.info()["embedder"] == "stripes:s"


def test_searches_fuse_the_ranks_of_the_models(folder):
    catalog = Catalog.open(folder / "catalog")
    everything = np.arange(IMAGES)
    centred = catalog.embeddings(everything) - catalog.signs.mean_
    cosines = np.stack([unit(centred[:, part]) @ unit(centred[5:6, part])[0] for part in catalog.parts], axis=1)
    ids, distances = fuse(cosines, everything, 30)
    with Session(catalog, "oracle") as session:
        hits = session.search(5, 30)
        assert hits.ids.tolist() == ids.tolist()
        assert np.allclose(hits.distances, distances)
        assert (hits.source, hits.ids[0], hits.distances[0]) == ("oracle/bits+embeddings+ranks", 5, 0)
        assert (hits.ids % 4 == 1).mean() > 0.8
        assert session.search(folder / "photos/005.png", 30).ids.tolist()[0] == 5


def test_words_are_ranked_by_the_models_that_read_texts(folder):
    with Session(Catalog.open(folder / "catalog"), "oracle") as session:
        for query in ("red", "red + #4", "red - #7"):
            hits = session.search(query, 40)
            assert "ranks" not in hits.source
            assert (hits.ids % 2 == 0).all()
            assert not session.searcher.words(query)[3:].any()
        assert "ranks" in session.search("#4 - #6", 5).source


def test_search_mark_find_all_and_export(folder, tmp_path):
    with Session(Catalog.open(folder / "catalog")) as session:
        shown = session.search("red", 20).ids
        session.mark(shown[wanted(shown)][:6], +1)
        session.mark(shown[~wanted(shown)][:4], -1)
        session.mark([1, 5, 9, 13], -1)
        matches = session.find_all(RefineOptions(query="red")).matches.ids
        assert wanted(matches[:20]).all()
        assert session.export(tmp_path / "found.parquet") == len(matches)
    assert pq.read_table(tmp_path / "found.parquet")["id"].to_pylist() == matches.tolist()


def test_all_backends_give_the_same_answers(folder):
    catalog = Catalog.open(folder / "catalog")
    opened = [
        OracleBackend(catalog),
        open_backend("cpu", catalog),
        GpuBackend(catalog, SimulatedDevice, sample_from=300),
        ShardedBackend(catalog, [LocalShard(OracleBackend) for _ in range(3)]),
    ]
    answers = []
    for backend in opened:
        with backend, Session(catalog, backend) as session:
            found = [session.search(query, 50, where=None) for query in (5, "red", "#4 + #8 - #6")]
            session.mark([0, 4, 8], +1)
            session.mark([1, 2, 6], -1)
            answer = session.find_all()
            answers.append([*(hits.ids.tolist() for hits in found), answer.matches.ids.tolist()])
            answers[-1] += [hits.distances.tolist() for hits in found]
    assert all(answer == answers[0] for answer in answers[1:])


def test_catalogs_grow_follow_their_inputs_and_are_encoded_again(folder, tmp_path):
    draw(tmp_path / "photos", range(40))
    catalog = tmp_path / "catalog"
    ingest([tmp_path / "photos"], catalog, embedder=SPECS, d=8)
    draw(tmp_path / "more", range(40, 44))
    with pytest.raises(SpaceMismatchError, match="tones"):
        append(catalog, [tmp_path / "more"], embedder="tones:t")
    with pytest.raises(SpaceMismatchError, match="embedder"):
        append(catalog, [tmp_path / "more"], embedder=SPECS[::-1])
    assert append(catalog, [tmp_path / "more"]).added == 4
    (tmp_path / "photos/000.png").unlink()
    draw(tmp_path / "photos", range(44, 46))
    assert sync(catalog, [tmp_path / "photos"]).added == 2
    assert encode(catalog, head="pca", d=4).changed
    whole = Catalog.open(catalog)
    assert (whole.n, whole.parts) == (45, (slice(0, 3), slice(3, 19)))
    with Session(whole, "oracle") as session:
        assert session.search(8, 5).ids[0] == 8


def test_shards_with_both_models_are_merged(folder, tmp_path):
    photos = folder / "photos"
    ingest([photos], tmp_path / "fitted", embedder=SPECS, d=8, fit_only=True)
    for number in (1, 2):
        ingest([photos], tmp_path / f"{number}", codec_from=tmp_path / "fitted", shard=f"{number}/2")
    merge(tmp_path / "whole", [tmp_path / "1", tmp_path / "2"])
    whole, single = Catalog.open(tmp_path / "whole"), Catalog.open(folder / "catalog")
    assert (whole.parts, whole.embedder, whole.n) == (single.parts, single.embedder, IMAGES)
    assert np.array_equal(whole.embeddings(np.arange(IMAGES)), single.embeddings(np.arange(IMAGES)))
    ingest([photos], tmp_path / "swapped", embedder=SPECS[::-1], d=8)
    with pytest.raises(GpuBranchesError, match="another embedder"):
        merge(tmp_path / "none", [tmp_path / "whole", tmp_path / "swapped"])


def test_the_command_line_takes_two_models(folder, tmp_path, program):
    draw(tmp_path / "photos", range(12))
    two = ["--embedder", SPECS[0], "--embedder", SPECS[1]]
    code, _, told = program(cli.main, "ingest", tmp_path / "photos", "--out", tmp_path / "c", *two, "--dims", "8")
    assert code == 0, told
    code, told, _ = program(cli.main, "info", tmp_path / "c", "--json")
    assert json.loads(told)["embedder"] == SPECS
    code, told, _ = program(cli.main, "search", tmp_path / "c", "red", "-k", "3", "--backend", "oracle", "--json", *two)
    assert code == 0
    assert all(item % 2 == 0 for item in json.loads(told)["ids"])
    refused = {
        ("search", tmp_path / "c", "red", "--embedder", SPECS[0]): "the catalog's embedder is",
        ("ingest", tmp_path / "photos", "--out", tmp_path / "d", *two, *two[:2]): "expected one model or two, got 3",
        ("ingest", tmp_path / "photos", "--out", tmp_path / "d", *two[:2], *two[:2]): "got tones:t twice",
        ("ingest", tmp_path / "photos", "--out", tmp_path / "d", "--embedder", "[1]"): "expected the spec of a model",
    }
    for arguments, says in refused.items():
        code, _, told = program(cli.main, *arguments)
        assert code in (2, 3)
        assert says in told
        assert told.strip().count("\n") == 0


def test_the_page_and_the_api_search_by_both(folder):
    catalog = Catalog.open(folder / "catalog")
    with open_backend("oracle", catalog) as backend:
        client = create_app(catalog, backend, embedder=open_embedder(catalog.embedder)).test_client()
        told = client.get("/api/v1/catalog").json
        assert (told["embedder"], told["texts"], told["parts"]) == (["tones", "stripes"], True, [3, 16])
        found = client.post("/api/v1/search", json={"item": 5, "k": 10}).json
        assert found["source"].endswith("+ranks")
        assert found["items"][0]["id"] == 5
        page = client.get("/search?q=red", headers=HX)
        assert page.status_code == 200
        photo = (folder / "photos/005.png").read_bytes()
        sent = client.post(
            "/pictures", data=photo, content_type="image/png", headers={**HX, "Accept": "application/json"}
        )
        shown = client.get(f"/search?q=picture:{sent.json['name']}", headers=HX)
        assert 'id="tile-5"' in shown.text


def test_models_of_pictures_alone_refuse_words():
    other = Stripes()
    other.identity = "v2"
    both = JointEmbedder([ModelEmbedder(Stripes(), "a", "a"), ModelEmbedder(other, "b", "b")])
    assert (both.reads_texts, both.text_mean, both.training_texts) == (False, None, [])
    with pytest.raises(UsageError, match="the models read pictures only"):
        both.texts(["red"])


def test_models_with_too_many_dims_are_refused():
    wide = Stripes()
    wide.dim, wide.identity = 2040, "wide"
    with pytest.raises(UsageError, match="two models of 2,048 dims together at most, got 16 and 2,040; choose smaller"):
        JointEmbedder([ModelEmbedder(Stripes(), "a", "a"), ModelEmbedder(wide, "b", "b")])


@pytest.mark.parametrize("parts", [[19], [3, 15], [0, 19], [3, "16"], 19, [-1, 20]])
def test_a_manifest_with_other_parts_is_refused(folder, parts):
    from gpubranches.catalog.manifest import _problem

    manifest = read_manifest(folder / "catalog")
    assert not _problem(manifest)
    assert _problem({**manifest, "parts": parts}).startswith("parts: expected")


@given(st.lists(st.text(min_size=1).filter(lambda text: text[0] != "["), min_size=1, max_size=3))
def test_specs_are_split_as_they_were_joined(specs):
    assert split(joined(specs)) == specs


columns = st.integers(1, 2).flatmap(
    lambda models: st.lists(st.lists(st.integers(0, 9), min_size=models, max_size=models), min_size=1, max_size=40)
)


@given(columns, st.integers(1, 50))
def test_ranks_are_fused_as_the_formula_says(rows, k):
    ids, similarities = np.arange(len(rows)) * 7, np.array(rows, np.float32)
    mixed = dict(zip(ids.tolist(), splitmix64(ids).tolist(), strict=True))
    scores = dict.fromkeys(ids.tolist(), 0.0)
    for column in similarities.T.tolist():
        order = sorted(scores, key=lambda item: (-column[item // 7], mixed[item]))
        for rank, item in enumerate(order, 1):
            scores[item] += 1 / (60 + rank)
    order = sorted(scores, key=lambda item: (-scores[item], mixed[item]))
    found, distances = fuse(similarities, ids, k)
    assert found.tolist() == order[:k]
    assert np.allclose(distances, [1 - scores[item] * 61 / len(rows[0]) for item in order[:k]], atol=1e-6)
    assert fuse(similarities[:, ::-1], ids, k)[0].tolist() == found.tolist()


def test_each_part_is_whitened_by_its_own_covariance():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 10)).astype(np.float32) * np.array([1] * 4 + [9] * 6, np.float32)
    rows[:, 4:] += rows[:, :1]
    parts = (slice(0, 4), slice(4, 10))
    both = Whitening(parts=parts).fit(rows)
    for part in parts:
        assert np.allclose(both.matrix_[part, part], Whitening().fit(np.ascontiguousarray(rows[:, part])).matrix_)
    assert not both.matrix_[:4, 4:].any()
    assert not both.matrix_[4:, :4].any()


@pytest.mark.parametrize("telling", [0, 1])
def test_the_model_that_predicts_unseen_marks_counts_more(telling):
    rng = np.random.default_rng(telling)
    rows = rng.standard_normal((200, 120)).astype(np.float32)
    positive, parts = np.arange(200) < 12, (slice(0, 60), slice(60, 120))
    rows[:12, parts[telling]] += 0.8
    told = {"sample_weight": np.ones(200), "folds": folds_of(12, 188, 4)}
    scales = part_scales(rows, positive, parts, **told)
    assert scales[parts[telling]].min() > 1 > scales[parts[1 - telling]].max()
    assert np.isclose((scales**2).mean(), 1)
    rows[:, parts[1]] = rows[:, parts[0]]
    assert np.allclose(part_scales(rows, positive, parts, **told), 1, atol=1e-3)
    alone = told | {"folds": np.where(positive, -1, told["folds"])}
    assert part_scales(rows, positive, parts, **alone).tolist() == [1] * 120
