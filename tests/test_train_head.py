"""A head is trained, stopped, gone on with, used; what cannot be trained on is refused first."""

import json
import os
import signal

import numpy as np
import pytest
from click.testing import CliRunner
from clusters import NAMES, D, world, write_world
from forking import forked
from safetensors.numpy import load, load_file

from gpubranches import Catalog
from gpubranches.cli import cli
from gpubranches.encoders.heads import HeadSettings, TrainedHead, load_head, training
from gpubranches.encoders.heads.network import build_tower, forward, rounded_to_codes, to_numpy
from gpubranches.encoders.heads.text_memory import fit_text_memory
from gpubranches.encoders.heads.towers import TextMemory, Tower, unit
from gpubranches.encoders.heads.training_data import TrainingData
from gpubranches.encoders.holdout import split
from gpubranches.encoders.quantizers import ScalarQuantizer
from gpubranches.errors import BackendUnavailableError, CatalogFormatError, DataError, SpaceMismatchError, UsageError
from gpubranches.ingestion import ingest
from gpubranches.ingestion.encode import encode
from gpubranches.ingestion.train_head import train_head

torch = pytest.importorskip("torch")

SMALL = HeadSettings(d=8, hidden=(32,), batch=128, epochs=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    write_world(path)
    np.save(path / "emb.npy", world()[0].astype(np.float32))
    ingest([path / "images"], path / "catalog", embedder=vocabulary(path), d=8)
    return path


@pytest.fixture(scope="module")
def trained(folder):
    report = train_head(folder / "catalog", folder / "head.safetensors", settings=SMALL)
    return report, load_head(folder / "head.safetensors")


def vocabulary(path):
    return f"vocabulary:{path}/text/emb.npy,{path}/text/names.json"


def curved(n=2000, latent=4, dims=64):
    """Return rows on a curved surface of few dims, which a plane of 8 dims cuts off."""
    rng = np.random.default_rng(0)
    places = rng.uniform(-1.5, 1.5, (n, latent))
    return np.cos(places @ rng.standard_normal((latent, dims)) + rng.uniform(0, 6, dims)).astype(np.float32)


def test_a_trained_head_keeps_more_neighbours_than_pca(tmp_path):
    np.save(tmp_path / "emb.npy", curved())
    settings = HeadSettings(d=8, hidden=(64, 64), batch=256, epochs=20, learning_rate=3e-3)
    report = train_head(tmp_path / "emb.npy", tmp_path / "head.safetensors", settings=settings)
    assert report.recall > report.recall_pca + 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_a_card_trains_as_well(tmp_path):
    np.save(tmp_path / "emb.npy", curved())
    settings = HeadSettings(d=8, hidden=(64, 64), batch=256, epochs=20, learning_rate=3e-3)
    recalls = [
        train_head(tmp_path / "emb.npy", tmp_path / "head.safetensors", settings=settings, device=device).recall
        for device in ("cpu", "cuda")
    ]
    assert abs(recalls[1] - recalls[0]) < 0.03


def test_a_card_that_is_not_there_is_told(folder, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("torch sees a CUDA device")
    with pytest.raises(BackendUnavailableError, match="--device cpu"):
        train_head(folder / "emb.npy", tmp_path / "head.safetensors", settings=SMALL, device="cuda")


def test_the_report_tells_what_was_trained(trained):
    report, head = trained
    assert (report.rows, report.texts, head.d, head.D) == (1500, len(NAMES), 8, D)
    assert head.identity == report.identity


def test_its_vectors_are_unit_and_its_file_says_how_it_was_trained(folder, trained):
    _, head = trained
    images, _, texts = world()
    for vectors in (head.transform(images), head.transform_texts(texts)):
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert head.config["settings"] == SMALL.to_json()
    assert head.config["names"] == NAMES
    assert head.embedder == Catalog.open(folder / "catalog").space.embedder


def test_texts_land_where_their_images_are(trained):
    _, head = trained
    images, labels, texts = world()
    found = (head.transform_texts(texts) @ head.transform(images).T).argsort(axis=1)[:, ::-1][:, :30]
    assert np.mean(labels[found] == np.arange(len(NAMES))[:, None]) > 0.9


def test_codes_are_decoded_to_embeddings_nearer_than_a_linear_map_brings_them(tmp_path):
    rows = curved()
    np.save(tmp_path / "emb.npy", rows)
    settings = HeadSettings(d=8, hidden=(64, 64), batch=256, epochs=40, learning_rate=3e-3)
    train_head(tmp_path / "emb.npy", tmp_path / "head.safetensors", settings=settings)
    head = load_head(tmp_path / "head.safetensors")
    embeddings = unit(rows.astype(np.float32))
    parts = split(np.arange(len(rows)))
    scalar = ScalarQuantizer(low=-1.0, high=1.0).fit(np.zeros((1, 8), np.float32))
    vectors = scalar.decode(scalar.encode(head.transform(embeddings)))
    decoded = head.inverse_transform(vectors)
    assert (decoded.dtype, decoded.shape, head.decodes) == (np.float32, embeddings.shape, True)
    assert np.allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-5)
    wide = np.hstack([vectors, np.ones((len(vectors), 1), np.float32)])
    linear = wide @ np.linalg.lstsq(wide[parts.fit], embeddings[parts.fit], rcond=None)[0]
    near, least = (
        np.einsum("ij,ij->i", unit(back[parts.test]), embeddings[parts.test]).mean() for back in (decoded, linear)
    )
    assert 1 - near < 0.5 * (1 - least)


def test_few_rows_are_decoded_by_a_plane(tmp_path):
    """Layers fitted to a hundred rows do worse on others than least squares."""
    np.save(tmp_path / "emb.npy", np.random.default_rng(0).standard_normal((120, 64)).astype(np.float32))
    settings = HeadSettings(d=8, hidden=(256,), batch=32, epochs=30)
    report = train_head(tmp_path / "emb.npy", tmp_path / "head.safetensors", settings=settings)
    head = load_head(tmp_path / "head.safetensors")
    assert (head.decodes, len(head.decoder.layers)) == (True, 0)
    assert 0 < report.decoded < 1


def test_a_direction_from_the_mean_is_followed_to_the_unit_sphere(trained):
    head = trained[1]
    vectors = head.transform(world()[0][:50])
    decoded = head.inverse_transform(vectors)
    directions = head.decoder(vectors)
    assert np.allclose(unit(decoded - head.mean), directions, atol=1e-4)
    assert np.allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-5)


def test_a_head_of_before_there_were_decoders_is_read(trained):
    head = trained[1]
    plain = TrainedHead(
        head.images, head.mean, texts=head.texts, text_mean=head.text_mean, config=head.config, embedder=head.embedder
    )
    named = load(plain.to_bytes())
    about = json.loads(named["config"].tobytes())
    del about["decodes"]
    again = TrainedHead.from_tensors({**named, "config": np.frombuffer(json.dumps(about).encode(), np.uint8)})
    assert not again.decodes
    assert np.array_equal(again.transform(world()[0]), head.transform(world()[0]))
    with pytest.raises(UsageError, match="no decoder"):
        again.inverse_transform(np.zeros((1, 8), np.float32))


def test_the_same_seed_trains_the_same_head_and_another_does_not(folder, trained):
    again = train_head(folder / "catalog", folder / "again.safetensors", settings=SMALL)
    assert again.identity == trained[0].identity
    assert (folder / "again.safetensors").read_bytes() == (folder / "head.safetensors").read_bytes()
    other = HeadSettings(**{**SMALL.to_json(), "hidden": SMALL.hidden, "seed": 1})
    assert train_head(folder / "catalog", folder / "again.safetensors", settings=other).identity != again.identity


def stopped(folder, out, epoch):
    """Train, and be killed after an epoch."""
    evaluate = training._TrainingRun.evaluate

    def stopping(run):
        evaluate(run)
        if run.epochs_done == epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    training._TrainingRun.evaluate = stopping
    train_head(folder / "catalog", out, settings=SMALL)


def test_a_killed_training_goes_on_to_the_same_head(folder, trained, tmp_path):
    out = tmp_path / "head.safetensors"
    for epoch in (3, 6):
        assert forked(stopped, folder, out, epoch) == -signal.SIGKILL
        assert not out.exists()
        assert (tmp_path / "head.safetensors.training" / "state.safetensors").exists()
    assert train_head(folder / "catalog", out, settings=SMALL).recalls == trained[0].recalls
    assert out.read_bytes() == (folder / "head.safetensors").read_bytes()
    assert os.listdir(tmp_path) == ["head.safetensors"]


def test_the_state_of_another_training_is_refused(folder, tmp_path):
    out = tmp_path / "head.safetensors"
    assert forked(stopped, folder, out, 2) == -signal.SIGKILL
    with pytest.raises(UsageError, match="other settings or rows"):
        train_head(folder / "catalog", out, settings=HeadSettings(d=8, hidden=(16,), batch=128))
    (tmp_path / "head.safetensors.training" / "state.safetensors").write_bytes(b"cut off")
    with pytest.raises(UsageError, match="checkpoint"):
        train_head(folder / "catalog", out, settings=SMALL)


@pytest.mark.parametrize("variant", ["residual", "mlp", "linear"])
def test_the_towers_in_numpy_are_those_of_torch(variant):
    rng = np.random.default_rng(0)
    settings = HeadSettings(d=8, hidden=(16, 12), variant=variant)
    tower = build_tower(settings, rng.standard_normal((8, 20)).astype(np.float32))
    tower.train()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.from_numpy(rng.standard_normal(parameter.shape).astype(np.float32)) * 0.3)
        for _ in range(5):
            forward(tower, torch.from_numpy(unit(rng.standard_normal((50, 20)).astype(np.float32))))
    tower.eval()
    rows = unit(rng.standard_normal((5000, 20)).astype(np.float32))
    with torch.no_grad():
        expected = forward(tower, torch.from_numpy(rows)).numpy()
    assert np.abs(to_numpy(tower)(rows) - expected).max() < 1e-5


def test_rounding_in_the_loop_is_that_of_the_codes():
    vectors = torch.from_numpy(unit(np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)))
    generator = torch.Generator().manual_seed(0)
    scalar = ScalarQuantizer(low=-1.0, high=1.0).fit(vectors.numpy())
    straight = rounded_to_codes(vectors, "straight-through", generator).numpy()
    assert np.abs(straight - scalar.decode(scalar.encode(vectors.numpy()))).max() < 1e-5
    noisy = rounded_to_codes(vectors, "noise", generator)
    assert 0 < float((noisy - vectors).abs().max()) < 1 / 127
    assert torch.equal(rounded_to_codes(vectors, "none", generator), vectors)


def test_a_memory_is_a_softmax_over_its_keys_and_a_linear_map():
    rng = np.random.default_rng(1)
    keys = unit(rng.standard_normal((30, 12)).astype(np.float32)).astype(np.float16)
    values = unit(rng.standard_normal((30, 4)).astype(np.float32))
    linear = rng.standard_normal((4, 12)).astype(np.float32)
    texts = unit(rng.standard_normal((7, 12)).astype(np.float32))
    weights = np.exp(texts @ keys.astype(np.float32).T / 0.1)
    remembered = unit((weights / weights.sum(axis=1, keepdims=True)) @ values)
    expected = unit(0.75 * remembered + 0.25 * unit(texts @ linear.T))
    assert np.allclose(TextMemory(keys, values, linear, 0.1, 0.25)(texts), expected, atol=1e-5)


def test_the_linear_map_of_a_memory_predicts_the_cosines_best():
    images, _, _ = world()
    examples = TrainingData(images)
    tower = to_numpy(
        build_tower(SMALL, np.linalg.qr(np.random.default_rng(0).standard_normal((D, 8)))[0].T.astype(np.float32))
    )
    memory = fit_text_memory(examples, tower)
    embeddings, vectors = memory.keys.astype(np.float64), memory.values.astype(np.float64)
    texts = np.random.default_rng(1).standard_normal((D, 20))
    best, _, _, _ = np.linalg.lstsq(vectors, embeddings @ texts, rcond=None)
    assert np.allclose(memory.linear @ texts, best, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("rounding", ["noise", "straight-through"])
@pytest.mark.parametrize("variant", ["mlp", "linear"])
def test_every_variant_trains(folder, tmp_path, variant, rounding):
    settings = HeadSettings(d=8, hidden=(32,), batch=256, epochs=2, variant=variant, rounding=rounding, koleo=0.0)
    report = train_head(folder / "emb.npy", tmp_path / "head.safetensors", settings=settings)
    head = load_head(tmp_path / "head.safetensors")
    assert (report.texts, report.epochs, head.has_text_tower) == (0, 2, False)
    with pytest.raises(UsageError, match="no tower for texts"):
        head.transform_texts(world()[2])


def test_pairs_train_both_towers_together(folder, tmp_path):
    images, labels, texts = world()
    rng = np.random.default_rng(0)
    said = rng.standard_normal((len(images), D)).astype(np.float32)
    said[labels >= 0] = 5 * texts[labels[labels >= 0]] + 0.1 * said[labels >= 0]
    np.save(tmp_path / "texts.npy", said)
    settings = HeadSettings(d=8, hidden=(32,), batch=256, epochs=30, learning_rate=3e-3, patience=30)
    train_head(folder / "emb.npy", tmp_path / "head.safetensors", settings=settings, pairs=tmp_path / "texts.npy")
    head = load_head(tmp_path / "head.safetensors")
    assert isinstance(head.texts, Tower)
    test = split(np.arange(len(images))).test
    test = test[labels[test] >= 0]
    found = (head.transform_texts(unit(texts)) @ head.transform(images[test]).T).argmax(axis=0)
    assert np.mean(found == labels[test]) > 0.9


def test_training_stops_when_the_held_out_recall_does(folder, tmp_path):
    settings = HeadSettings(d=8, hidden=(32,), batch=128, epochs=60, learning_rate=0.05, patience=2)
    report = train_head(folder / "emb.npy", tmp_path / "head.safetensors", settings=settings)
    assert report.epochs < 60
    assert report.recall == max(recall for epoch, recall in report.recalls if epoch == report.best_epoch)


def test_held_out_rows_are_never_learned_from(folder):
    images = world()[0]
    examples = TrainingData(images)
    parts = split(np.arange(len(images)))
    assert np.array_equal(examples.fit, parts.fit)
    assert np.array_equal(examples.judged[: len(parts.validation)], parts.validation)
    assert not np.isin(parts.test, examples.judged).any()


def test_the_recall_is_of_the_codes_among_the_true_nearest():
    images = world(400)[0]
    examples = TrainingData(images)
    vectors = examples.centred(examples.judged)[:, :16].copy()
    queries = len(split(np.arange(400)).validation)
    codes = np.floor(127.5 * vectors + 128).clip(0, 255)
    full = examples.centred(examples.judged)
    expected = []
    for row in range(queries):
        true = np.argsort(-(full[queries:] @ full[row]))[:100]
        found = np.argsort(((codes[queries:] - codes[row]) ** 2).sum(axis=1))[:100]
        expected.append(len(np.intersect1d(true, found)) / 100)
    assert examples.recall(vectors) == pytest.approx(np.mean(expected), abs=0.02)


def test_a_catalog_is_encoded_with_it_and_appended_to(folder, trained, tmp_path):
    ingest([folder / "images"], tmp_path / "catalog", embedder=vocabulary(folder), d=8)
    before = Catalog.open(tmp_path / "catalog")
    embeddings = before.embeddings(np.arange(before.n))
    encode(tmp_path / "catalog", head=str(folder / "head.safetensors"))
    after = Catalog.open(tmp_path / "catalog")
    scalar = ScalarQuantizer(low=-1.0, high=1.0).fit(np.zeros((1, 8), np.float32))
    expected = scalar.encode(trained[1].transform(embeddings))
    assert np.abs(after.codes(np.arange(after.n)).astype(int) - expected).max() <= 1
    ingest([folder / "images"], tmp_path / "other", embedder=vocabulary(folder), head=str(folder / "head.safetensors"))
    assert np.array_equal(Catalog.open(tmp_path / "other").codes(np.arange(after.n)), after.codes(np.arange(after.n)))


def test_a_text_is_searched_by_codes_alone(folder, trained, tmp_path):
    head = ["--head", str(folder / "head.safetensors")]
    ingest([folder / "images"], tmp_path / "catalog", embedder=vocabulary(folder), head=head[1])
    runner, labels = CliRunner(), world()[1]
    for backend in ("oracle", "cpu"):
        asked = [
            "search",
            str(tmp_path / "catalog"),
            "teapot",
            "-k",
            "20",
            "--by-codes",
            "--backend",
            backend,
            "--json",
        ]
        told = runner.invoke(cli, asked)
        assert told.exit_code == 0, told.output
        items = json.loads(told.stdout)["ids"]
        assert np.mean(labels[items] == NAMES.index("teapot")) > 0.9
    np.save(tmp_path / "x.npy", np.ones(Catalog.open(folder / "catalog").D, np.float32))
    for arguments, message in (
        (["search", str(folder / "catalog"), "teapot", "--by-codes"], "no tower for texts"),
        (["search", str(folder / "catalog"), "--vector", str(tmp_path / "x.npy"), "--by-codes"], "by_codes: expected"),
    ):
        assert message in str(runner.invoke(cli, arguments).exception)


def test_a_head_of_another_model_is_refused(folder, tmp_path):
    np.save(tmp_path / "text.npy", world(seed=5)[2])
    (tmp_path / "names.json").write_text(json.dumps(NAMES))
    other = f"vocabulary:{tmp_path}/text.npy,{tmp_path}/names.json"
    with pytest.raises(SpaceMismatchError, match="embedder"):
        train_head(folder / "catalog", tmp_path / "head.safetensors", settings=SMALL, embedder=other)
    ingest([folder / "images"], tmp_path / "catalog", embedder=other, d=8)
    with pytest.raises(SpaceMismatchError, match="trained on those of"):
        encode(tmp_path / "catalog", head=str(folder / "head.safetensors"))


def spoiled(images, what):
    if what == "nan":
        images[7, 3] = np.nan
    elif what == "zero":
        images[9] = 0
    elif what == "constant":
        images[:, 5] = 0
    return images


@pytest.mark.parametrize(
    ("what", "settings", "error", "message"),
    [
        ("nan", SMALL, DataError, r"finite.*\[7\]"),
        ("zero", SMALL, DataError, r"not zero.*\[9\]"),
        ("constant", SMALL, DataError, r"1 of 64 are the same in all rows, such as \[5\]"),
        ("", HeadSettings(batch=5000), UsageError, "at most the 1,350 training rows"),
        ("", HeadSettings(d=128, batch=64), UsageError, "at most 64 for 64 dims"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_first(tmp_path, what, settings, error, message):
    np.save(tmp_path / "emb.npy", spoiled(world()[0], what))
    with pytest.raises(error, match=message):
        train_head(tmp_path / "emb.npy", tmp_path / "head.safetensors", settings=settings)
    assert not (tmp_path / "head.safetensors").exists()


def test_pairs_of_another_length_or_width_are_refused(folder, tmp_path):
    np.save(tmp_path / "short.npy", world(1400)[0])
    np.save(tmp_path / "narrow.npy", world()[0][:, :32])
    for name, message in (("short", "1,500 rows and more, got 1,400"), ("narrow", "a text for every image")):
        with pytest.raises(UsageError, match=message):
            train_head(folder / "emb.npy", tmp_path / "h.safetensors", settings=SMALL, pairs=tmp_path / f"{name}.npy")


@pytest.mark.parametrize(
    "wrong",
    [
        {"d": 7},
        {"variant": "tree"},
        {"rounding": "up"},
        {"hidden": ()},
        {"epochs": 0},
        {"batch": 1},
        {"koleo": -1.0},
        {"koleo": float("nan")},
        {"temperature": 0.0},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        HeadSettings(**wrong)


def test_a_damaged_head_is_refused(folder, trained, tmp_path):
    content = (folder / "head.safetensors").read_bytes()
    for cut in (10, 400, len(content) - 3):
        (tmp_path / "head.safetensors").write_bytes(content[:cut])
        with pytest.raises(CatalogFormatError, match="head"):
            load_head(tmp_path / "head.safetensors")
    wrong = TrainedHead(Tower(np.ones((8, 12), np.float32), ()), np.zeros(12, np.float32))
    (tmp_path / "head.safetensors").write_bytes(wrong.to_bytes().replace(b'"d": 8', b'"d": 4'))
    with pytest.raises(CatalogFormatError, match="head"):
        load_head(tmp_path / "head.safetensors")


def test_the_command_trains_and_tells(folder, tmp_path):
    (tmp_path / "held.json").write_text(json.dumps(NAMES[:2]))
    arguments = ["train-head", str(folder / "catalog"), "--out", str(tmp_path / "head.safetensors"), "--dim", "8"]
    arguments += ["--hidden", "16", "--batch", "256", "--epochs", "2", "--without-texts", str(tmp_path / "held.json")]
    told = CliRunner().invoke(cli, [*arguments, "--json"])
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout.splitlines()[-1])
    assert report["texts"] == len(NAMES) - 2
    assert load_head(tmp_path / "head.safetensors").identity == report["identity"]
    assert set(load_file(tmp_path / "head.safetensors")) >= {"mean", "text_mean", "images.skip", "texts.keys"}
    assert "codes find" in CliRunner().invoke(cli, arguments).output


def test_the_command_refuses_what_it_cannot_read(folder, tmp_path):
    runner = CliRunner()
    out = ["--out", str(tmp_path / "head.safetensors")]
    (tmp_path / "wrong.json").write_text("{}")
    wrong = [
        ["train-head", str(folder / "catalog"), "--out", str(tmp_path / "head.bin")],
        ["train-head", str(folder / "catalog"), "--out", str(tmp_path / "none" / "head.safetensors")],
        ["train-head", str(folder / "catalog"), *out, "--hidden", "wide"],
        ["train-head", str(folder / "catalog"), *out, "--without-texts", str(tmp_path / "wrong.json")],
        ["train-head", str(tmp_path / "nothing"), *out],
        ["train-head", str(folder / "text" / "names.json"), *out],
    ]
    for arguments in wrong:
        told = runner.invoke(cli, arguments)
        assert told.exit_code != 0, arguments
        assert isinstance(told.exception, (UsageError, DataError)), told.exception
