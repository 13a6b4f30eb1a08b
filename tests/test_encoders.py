"""Kinds of models: what they embed equals what their libraries embed, from local files and without the network."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import socket
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from models import (
    ONNX,
    pictures,
    unit,
    write_onnx,
    write_open_clip,
    write_sentence_transformers,
    write_transformers,
    write_word_tokenizer,
)
from PIL import Image

from gpubranches import Catalog
from gpubranches.encoders import model_files, open_embedder, registry
from gpubranches.encoders.model_embedder import ModelEmbedder
from gpubranches.errors import BackendUnavailableError, DataError, UsageError
from gpubranches.ingestion import append, build_catalog, ingest

HUB_ANSWERS = model_files.hub_answers
TEXTS = ["a red dog", "two cat bicycle", "A photo of a dog a dog a dog a dog a dog a dog"]


def needs(*packages):
    """Skip a test without packages; open_clip and transformers need torchvision's operators declared first."""
    pytest.importorskip("torch", reason="the [clip] extra is not installed")
    from gpubranches.encoders.torchvision_ops import declare_torchvision_ops

    declare_torchvision_ops()
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def connections(monkeypatch):
    """Attempts to connect, each of which fails; a test that expects none compares with []."""
    tried = []

    def refuse(self, address):
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(model_files, "hub_answers", lambda: True)
    yield tried
    assert tried == []


def own_transformers(path, kind):
    """Return what transformers itself gives: rows of pictures, and of texts or None."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(path).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(path, backend="pil")
    with torch.inference_mode():
        pixels = processor(images=pictures(), return_tensors="pt")
        if kind.startswith("dino"):
            return model(**pixels).pooler_output.numpy(), None
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        padding = "longest" if kind == "clip" else "max_length"
        tokens = tokenizer(TEXTS, padding=padding, truncation=True, max_length=12, return_tensors="pt")
        return (
            model.get_image_features(**pixels).pooler_output.numpy(),
            model.get_text_features(**tokens).pooler_output.numpy(),
        )


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2", "dinov2", "dinov3"])
def test_models_of_transformers_embed_as_their_library(folder, kind):
    needs("transformers")
    path = folder / kind
    write_transformers(path, kind)
    embedder = open_embedder(f"transformers:{path}")
    images, texts = own_transformers(path, kind)
    assert np.allclose(embedder.images(pictures()), unit(images), atol=1e-5)
    assert images.shape[1] == embedder.D
    assert embedder.spec == f"transformers:{path}"
    assert open_embedder(embedder.spec).identity == embedder.identity
    if texts is None:
        assert (embedder.reads_texts, embedder.text_mean, embedder.training_texts) == (False, None, [])
        with pytest.raises(UsageError, match=r"dinov. reads pictures only; search by a picture"):
            embedder.texts(TEXTS)
    else:
        assert np.allclose(embedder.texts(TEXTS), unit(texts), atol=1e-5)
        assert embedder.texts([]).shape == (0, embedder.D)
        whole = embedder.texts(embedder.training_texts)
        assert np.allclose(embedder.text_mean, whole.mean(axis=0), atol=1e-6)


def test_a_model_is_known_by_its_files_and_not_by_its_place(folder, tmp_path):
    needs("transformers")
    write_transformers(tmp_path / "one", "dinov2")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two/README.md").write_text("not part of the model")
    first = open_embedder(f"transformers:{tmp_path}/one").identity
    assert open_embedder(f"transformers:{tmp_path}/two").identity == first
    described = json.loads((tmp_path / "two/preprocessor_config.json").read_text())
    (tmp_path / "two/preprocessor_config.json").write_text(json.dumps({**described, "image_mean": [0.1, 0.2, 0.3]}))
    assert open_embedder(f"transformers:{tmp_path}/two").identity != first


def test_models_of_transformers_that_cannot_be_used_are_refused_in_one_sentence(tmp_path):
    needs("transformers")
    write_transformers(tmp_path / "vit", "vit")
    write_transformers(tmp_path / "bert", "bert")
    write_transformers(tmp_path / "broken", "dinov2")
    (tmp_path / "broken/model.safetensors").write_bytes(b"not weights")
    write_transformers(tmp_path / "bare", "dinov2")
    (tmp_path / "bare/model.safetensors").unlink()
    (tmp_path / "empty").mkdir()
    for name, error, says in [
        ("vit", DataError, "2 are missing, such as pooler.dense.bias; get the whole model"),
        ("bert", UsageError, "one vector a picture.*got BertModel"),
        ("broken", DataError, "cannot load the model.*check the files"),
        ("bare", DataError, "cannot load the model.*check the files"),
        ("empty", DataError, r"config\.json: expected a file with a JSON object, found none; get the whole model"),
        ("none/there/is", UsageError, "expected transformers:FOLDER with a folder that exists"),
    ]:
        with pytest.raises(error, match=says) as refused:
            open_embedder(f"transformers:{tmp_path}/{name}")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "write", "file"),
    [
        ("transformers", lambda folder: write_transformers(folder, "dinov2"), "model.safetensors"),
        ("sentence-transformers", lambda folder: write_transformers(folder, "clip"), "model.safetensors"),
        ("open_clip", write_open_clip, "open_clip_model.safetensors"),
        ("onnx", write_onnx, "text.onnx"),
    ],
)
def test_a_pointer_in_place_of_the_weights_is_told(tmp_path, kind, write, file):
    needs("open_clip", "transformers", "onnx", "onnxruntime", "sentence_transformers")
    write(tmp_path / "model")
    (tmp_path / "model" / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(
        DataError, match=rf"{re.escape(file)}: expected .* got a pointer of Git LFS; run `git lfs pull`"
    ):
        open_embedder(f"{kind}:{tmp_path}/model")


def test_weights_of_another_architecture_name_what_differs(tmp_path):
    needs("open_clip")
    write_open_clip(tmp_path)
    described = json.loads((tmp_path / "open_clip_config.json").read_text())
    described["model_cfg"]["vision_cfg"]["width"] = 128
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"loading state_dict for CLIP: size mismatch for .*; check the files"):
        open_embedder(f"open_clip:{tmp_path}")


def test_only_a_name_of_the_hub_is_downloaded_and_only_the_files_that_are_read(folder, tmp_path, monkeypatch):
    needs("transformers")
    import huggingface_hub

    write_transformers(tmp_path / "snapshot", "dinov2")
    asked = []

    def download(name, *, revision, allow_patterns):
        asked.append((name, revision))
        assert "model*.safetensors" in allow_patterns
        assert not any(pattern.endswith((".bin", ".py")) for pattern in allow_patterns)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    local = open_embedder(f"transformers:{tmp_path}/snapshot")
    assert asked == []
    embedder = open_embedder("transformers:some-org/some.model-v1")
    assert open_embedder("transformers:some-org/some.model-v1@main").identity == local.identity
    assert asked == [("some-org/some.model-v1", None), ("some-org/some.model-v1", "main")]
    assert (embedder.spec, embedder.identity) == ("transformers:some-org/some.model-v1", local.identity)

    def fail(name, *, revision, allow_patterns):
        raise OSError("Repository not found.\nmore lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(DataError, match="Repository not found; no folder has this name; check the name on the Hub"):
        open_embedder("transformers:some-org/no-model")


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_models_of_sentence_transformers_embed_as_their_library(folder, kind, tmp_path):
    needs("transformers", "sentence_transformers")
    from sentence_transformers import SentenceTransformer

    write_transformers(tmp_path / "plain", kind)
    write_sentence_transformers(tmp_path / "st", tmp_path / "plain")
    embedder = open_embedder(f"sentence-transformers:{tmp_path}/st")
    own = SentenceTransformer(str(tmp_path / "st"))
    many = pictures(5)
    assert np.allclose(embedder.images(many), unit(own.encode(many, show_progress_bar=False)), atol=1e-5)
    assert np.allclose(embedder.texts(TEXTS), unit(own.encode(TEXTS, show_progress_bar=False)), atol=1e-5)
    assert open_embedder(embedder.spec).identity == embedder.identity


def test_a_model_of_texts_alone_is_refused(tmp_path):
    needs("transformers", "sentence_transformers")
    write_transformers(tmp_path / "plain", "bert")
    (tmp_path / "plain/preprocessor_config.json").unlink()
    write_sentence_transformers(tmp_path / "st", tmp_path / "plain")
    with pytest.raises(UsageError, match="expected a model that reads pictures, got one of text"):
        open_embedder(f"sentence-transformers:{tmp_path}/st")


@pytest.mark.parametrize("rows", [1, 3])
def test_an_onnx_graph_of_a_fixed_number_of_rows_runs_several_times(tmp_path, rows):
    needs("onnx", "onnxruntime", "tokenizers")
    for name, count in (("any", "batch"), ("fixed", rows)):
        write_onnx(tmp_path / name, rows=count)
    one, other = (open_embedder(f"onnx:{tmp_path}/{name}") for name in ("any", "fixed"))
    assert np.allclose(one.images(pictures(4)), other.images(pictures(4)))
    assert np.allclose(one.texts(TEXTS[:2]), other.texts(TEXTS[:2]))


@pytest.mark.parametrize("kind", ["transformers", "sentence-transformers"])
def test_a_model_of_texts_without_a_tokenizer_is_refused(tmp_path, kind):
    needs("transformers", "sentence_transformers")
    write_transformers(tmp_path, "clip")
    for path in tmp_path.glob("token*"):
        path.unlink()
    with pytest.raises(DataError, match=r"expected a tokenizer .*get the whole model|cannot load the model"):
        open_embedder(f"{kind}:{tmp_path}")


def test_onnx_graphs_embed_as_their_weights_say(tmp_path):
    needs("onnx", "onnxruntime", "tokenizers", "torchvision")
    from torchvision import transforms

    weights = write_onnx(tmp_path / "m")
    embedder = open_embedder(f"onnx:{tmp_path}/m")
    own = transforms.Compose(
        [
            transforms.Resize(16, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(ONNX["image"]["mean"], ONNX["image"]["std"]),
        ]
    )
    pixels = np.stack([own(image).numpy().ravel() for image in pictures(4)])
    assert np.allclose(embedder.images(pictures(4)), unit(pixels @ weights["pixels"]), atol=1e-5)
    ids = [[2, 4, 9, 7, 3, 0, 0, 0], [2, 10, 8, 11, 3, 0, 0, 0]]
    assert np.allclose(embedder.texts(TEXTS[:2]), unit(weights["words"][ids].mean(axis=1)), atol=1e-5)
    assert embedder.D == 8
    assert open_embedder(embedder.spec).identity == embedder.identity
    write_onnx(tmp_path / "alone", texts=False)
    alone = open_embedder(f"onnx:{tmp_path}/alone")
    assert not alone.reads_texts
    assert alone.identity != embedder.identity
    assert np.allclose(alone.images(pictures()), embedder.images(pictures()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": None}, "expected image to have the keys"),
        ({"images": {}}, "expected the keys image and"),
        ({"image": ONNX["image"] | {"graph": "../image.onnx"}}, "expected graph to be a file in the folder"),
        ({"image": ONNX["image"] | {"graph": "none.onnx"}}, "expected graph to be a file in the folder"),
        ({"image": ONNX["image"] | {"size": 0}}, "expected size to be a whole number"),
        ({"image": ONNX["image"] | {"size": [16, "x"]}}, "expected size to be a whole number"),
        ({"image": ONNX["image"] | {"mean": [1]}}, "expected mean to be three numbers"),
        ({"image": ONNX["image"] | {"std": [1, 0, 1]}}, "expected std to be above 0"),
        ({"image": ONNX["image"] | {"resize": "crop"}}, "expected resize to be one of shortest, squash"),
        ({"image": ONNX["image"] | {"output": "other"}}, "expected `output` to be one of embeds"),
        ({"image": ONNX["image"] | {"means": 1}}, "expected image to have the keys"),
        ({"image": ONNX["image"] | {"graph": "tokenizer.json"}}, "cannot load the model"),
        ({"image": ONNX["image"] | {"size": 17}}, "cannot load the model"),
        ({"text": ONNX["text"] | {"length": None}}, "expected length to be a whole number"),
        ({"text": ONNX["text"] | {"tokenizer": "text.onnx"}}, "cannot load the model"),
        ({"text": ONNX["text"] | {"graph": "image.onnx"}}, "expected a graph of texts with inputs of"),
    ],
)
def test_a_wrong_encoder_json_is_refused_naming_the_key(tmp_path, change, says):
    needs("onnx", "onnxruntime", "tokenizers")
    write_onnx(tmp_path)
    (tmp_path / "encoder.json").write_text(json.dumps(ONNX | change))
    with pytest.raises(DataError, match=says) as refused:
        open_embedder(f"onnx:{tmp_path}")
    assert "\n" not in str(refused.value)


def own_open_clip(path):
    """Return open_clip's own rows of pictures and texts for a folder."""
    import open_clip
    import torch

    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{path}")
    with torch.inference_mode():
        images = model.eval().encode_image(torch.stack([transform(image) for image in pictures(4)]))
        return images.numpy(), model.encode_text(open_clip.get_tokenizer(f"local-dir:{path}")(TEXTS)).numpy()


@pytest.mark.parametrize(
    "described",
    [
        {},
        {"quick_gelu": True},
        {"preprocess": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}},
        {"preprocess": {"resize_mode": "longest"}},
    ],
)
def test_a_folder_of_open_clip_is_embedded_as_its_configuration_says(tmp_path, described):
    needs("open_clip")
    write_open_clip(tmp_path / "plain")
    write_open_clip(tmp_path / "m", **described)
    embedder = open_embedder(f"open_clip:{tmp_path}/m")
    images, texts = own_open_clip(tmp_path / "m")
    assert np.allclose(embedder.images(pictures(4)), unit(images), atol=1e-6)
    assert np.allclose(embedder.texts(TEXTS), unit(texts), atol=1e-6)
    assert open_embedder(embedder.spec).identity == embedder.identity
    plain = open_embedder(f"open_clip:{tmp_path}/plain")
    same = np.allclose(embedder.images(pictures(4)), plain.images(pictures(4)), atol=1e-6)
    assert same == (plain.identity == embedder.identity) == (not described)


def test_every_tag_of_open_clip_gets_its_own_activation():
    needs("open_clip")
    import open_clip

    from gpubranches.encoders.open_clip import _with_activation

    quick = 0
    for model, tag in open_clip.list_pretrained():
        named = _with_activation(open_clip, model, tag)
        wanted = bool(open_clip.get_pretrained_cfg(model, tag).get("quick_gelu"))
        config = open_clip.get_model_config(named)
        assert tag in open_clip.list_pretrained_tags_by_model(named)
        if wanted:
            quick += named != model
            assert config.pop("quick_gelu") is True
            before = open_clip.get_model_config(model)
            before.pop("quick_gelu", None)
            assert config == before
        else:
            assert named == model
    assert quick > 10


def test_the_table_of_models_is_what_the_libraries_have():
    """Dims, pixels and millions of parameters of docs/encoders.md."""
    needs("open_clip", "timm")
    import open_clip
    import timm
    import torch

    table = (Path(__file__).parents[1] / "docs/encoders.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| `open_clip:([\w-]+)/(\w+)` \| (\d+) \| (\d+) \| (\d+) \|", table, re.MULTILINE)
    assert len(rows) > 12
    for model, tag, dims, pixels, millions in rows:
        assert tag in open_clip.list_pretrained_tags_by_model(model)
        config = open_clip.get_model_config(model)
        assert (config["embed_dim"], config["vision_cfg"]["image_size"]) == (int(dims), int(pixels)), model
        if int(millions) < 160:
            with torch.device("meta"):
                made = open_clip.create_model(model, load_weights=False, device="meta")
            assert round(sum(weight.numel() for weight in made.parameters()) / 1e6) == int(millions), model
    rows = re.findall(r"facebook/dinov3-vit(.)16-[\w-]+` \| (\d+) \| \d+ \| (\d+) \|", table)
    for size, dims, millions in rows:
        with torch.device("meta"):
            made = timm.create_model(f"vit_{({'b': 'base', 'l': 'large'})[size]}_patch16_dinov3")
        assert made.num_features == int(dims)
        assert round(sum(weight.numel() for weight in made.parameters()) / 1e6) == int(millions)
    assert len(rows) == 2


@pytest.fixture
def tagged(tmp_path, monkeypatch):
    """A tiny model with tags of open_clip: openai has QuickGELU, other squashes pictures; and its file of weights."""
    needs("open_clip")
    import open_clip
    from models import OPEN_CLIP
    from open_clip import pretrained

    write_open_clip(tmp_path / "m")
    for name, quick in (("Tiny-Tags", False), ("Tiny-Tags-quickgelu", True)):
        (tmp_path / f"{name}.json").write_text(json.dumps(OPEN_CLIP | {"quick_gelu": quick}))
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, OPEN_CLIP | {"quick_gelu": quick})
    weights = tmp_path / "m/open_clip_model.safetensors"
    usual = pretrained._pcfg(url="https://example.org/x", hf_hub="", quick_gelu=False)
    tags = {
        "openai": {**usual, "quick_gelu": True, "file": str(weights)},
        "other": {**usual, "resize_mode": "squash", "mean": (0.5,) * 3, "std": (0.5,) * 3, "file": str(weights)},
    }
    monkeypatch.setitem(pretrained._PRETRAINED, "Tiny-Tags", tags)
    monkeypatch.setitem(pretrained._PRETRAINED, "Tiny-Tags-quickgelu", {"openai": tags["openai"]})
    return weights


def test_a_tag_gives_activation_and_preprocessing(tagged):
    import open_clip

    quick = open_embedder("open_clip:Tiny-Tags/openai")
    assert quick.spec == "open_clip:Tiny-Tags-quickgelu/openai"
    model, transform = open_clip.create_model_from_pretrained("Tiny-Tags-quickgelu", "openai")
    import torch

    with torch.inference_mode():
        own = unit(model.eval().encode_image(torch.stack([transform(image) for image in pictures()])).numpy())
    assert np.allclose(quick.images(pictures()), own, atol=1e-6)
    named = open_embedder("open_clip:Tiny-Tags-quickgelu/openai")
    assert (named.identity, named.spec) == (quick.identity, quick.spec)
    squashed = open_embedder("open_clip:Tiny-Tags/other")
    assert not np.allclose(squashed.images(pictures()), own, atol=1e-3)
    by_file = open_embedder(f"open_clip:Tiny-Tags/openai,{tagged}")
    assert np.allclose(by_file.images(pictures()), own, atol=1e-6)
    assert open_embedder(by_file.spec).identity == by_file.identity
    by_file = open_embedder(f"open_clip:Tiny-Tags/other,{tagged}")
    assert np.allclose(by_file.images(pictures()), squashed.images(pictures()), atol=1e-6)


def test_a_catalog_that_was_made_with_gelu_is_searched_with_gelu(tagged, caplog):
    now = open_embedder("open_clip:Tiny-Tags/openai")
    then = open_embedder("open_clip:Tiny-Tags/openai", identity="open_clip:Tiny-Tags/openai")
    assert then.identity == "open_clip:Tiny-Tags/openai"
    assert then.identity != now.identity
    assert "searches still use GELU" in caplog.text
    other = open_embedder("open_clip:Tiny-Tags/other")
    plain = open_embedder(f"open_clip:Tiny-Tags,{tagged}")
    assert np.allclose(then.texts(TEXTS), plain.texts(TEXTS), atol=1e-6)
    assert not np.allclose(then.images(pictures()), now.images(pictures()), atol=1e-4)
    assert np.allclose(then.texts(TEXTS), other.texts(TEXTS), atol=1e-6)


def test_an_ingest_that_was_made_with_gelu_can_be_repeated_and_continued(tagged, tmp_path):
    folder, spec = tmp_path / "in", "open_clip:Tiny-Tags/openai"
    folder.mkdir()
    for number, image in enumerate(pictures()):
        image.save(folder / f"{number}.png")
    made = ingest(folder, tmp_path / "c", embedder=open_embedder(spec, identity=spec))
    assert made.source["made_with"]["embedder"] == spec
    assert build_catalog([folder], tmp_path / "c", embedder=spec).added == 0
    pictures()[0].save(folder / "more.png")
    assert append(tmp_path / "c", [folder], embedder=spec, new=True).added == 1
    first, *_, more = Catalog.open(tmp_path / "c").embeddings(range(made.next_id + 1))
    assert np.allclose(first, more, atol=1e-3)
    assert ingest(folder, tmp_path / "now", embedder=spec).embedder == "open_clip:Tiny-Tags-quickgelu/openai"


def test_a_file_is_prepared_as_the_tags_of_its_model_agree(tagged, monkeypatch):
    from open_clip import pretrained

    unsure = open_embedder(f"open_clip:Tiny-Tags,{tagged}")
    tags = pretrained._PRETRAINED["Tiny-Tags"]
    monkeypatch.setitem(pretrained._PRETRAINED, "Tiny-Tags", {"other": tags["other"]})
    sure = open_embedder(f"open_clip:Tiny-Tags,{tagged}")
    assert np.allclose(
        sure.images(pictures()), open_embedder("open_clip:Tiny-Tags/other").images(pictures()), atol=1e-6
    )
    assert sure.identity != unsure.identity
    before = open_embedder(f"open_clip:Tiny-Tags,{tagged}", identity=unsure.identity)
    assert before.identity == unsure.identity
    assert np.allclose(before.images(pictures()), unsure.images(pictures()), atol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        "open_clip:hf-hub:org/model",
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        "transformers:org/model",
        "sentence-transformers:org/model@main",
    ],
)
def test_a_hub_that_does_not_answer_is_asked_once(tmp_path, monkeypatch, connections, spec):
    needs("open_clip", "transformers", "sentence_transformers")
    from huggingface_hub import constants

    monkeypatch.setattr(model_files, "hub_answers", HUB_ANSWERS)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(DataError, match=f"^{spec}: the model is not in the cache, and the Hub does not answer; check"):
        open_embedder(spec)
    assert len(connections) <= 1
    assert before == constants.HF_HUB_OFFLINE
    connections.clear()


def test_a_model_in_the_cache_is_opened_without_the_hub(tmp_path, monkeypatch):
    needs("transformers")
    monkeypatch.setattr(model_files, "hub_answers", lambda: False)
    write_transformers(tmp_path / "snapshot", "dinov2")
    commit = tmp_path / "models--org--model/snapshots" / ("0" * 40)
    commit.parent.mkdir(parents=True)
    (tmp_path / "snapshot").rename(commit)
    (tmp_path / "models--org--model/refs").mkdir()
    (tmp_path / "models--org--model/refs/main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert open_embedder("transformers:org/model").D == 32


def test_a_model_of_the_hub_is_read_by_its_configuration(tmp_path, monkeypatch):
    needs("open_clip")
    from open_clip import pretrained

    write_open_clip(tmp_path, preprocess={"mean": [0.5] * 3, "std": [0.5] * 3})
    files = []

    def download(model_id, filename=None, **options):
        files.append(filename)
        return str(tmp_path / (filename or "open_clip_model.safetensors"))

    monkeypatch.setattr(pretrained, "download_pretrained_from_hf", download)
    monkeypatch.setattr("open_clip.factory.download_pretrained_from_hf", download)
    hub = open_embedder("open_clip:hf-hub:org/model")
    local = open_embedder(f"open_clip:{tmp_path}")
    assert np.allclose(hub.images(pictures()), local.images(pictures()), atol=1e-6)
    assert hub.spec == "open_clip:hf-hub:org/model"
    described = json.loads((tmp_path / "open_clip_config.json").read_text())
    described["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/tokenizer"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    without(monkeypatch, "transformers")
    files.clear()
    with pytest.raises(BackendUnavailableError, match=r"tokenizer .* needs transformers; .*\[transformers\]"):
        open_embedder("open_clip:hf-hub:org/model")
    assert files == ["open_clip_config.json"]


def without(monkeypatch, *packages):
    """Let packages be missing, for imports and for those who look."""
    find = importlib.util.find_spec

    def missing(name, package=None):
        return None if name.partition(".")[0] in packages else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    for package in packages:
        monkeypatch.setitem(__import__("sys").modules, package, None)


def test_transformers_is_named_before_a_model_is_downloaded(tmp_path, monkeypatch):
    needs("open_clip")
    without(monkeypatch, "transformers")
    for spec in (
        "open_clip:ViT-B-16-SigLIP/webli",
        "open_clip:ViT-B-16-SigLIP2/webli",
        "open_clip:roberta-ViT-B-32/laion2b_s12b_b32k",
    ):
        with pytest.raises(BackendUnavailableError, match=r"needs transformers; pip install .*\[transformers\]"):
            open_embedder(spec)


@pytest.mark.parametrize(
    ("package", "spec", "extra"),
    [
        ("transformers", "transformers:org/name", "transformers"),
        ("sentence_transformers", "sentence-transformers:org/name", "sentence-transformers"),
        ("onnxruntime", "onnx:folder", "onnx"),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, package, spec, extra):
    needs("transformers")
    without(monkeypatch, package)
    with pytest.raises(BackendUnavailableError, match=rf"pip install 'gpubranches\[{extra}\]'"):
        open_embedder(spec)


def test_a_tokenizer_of_the_hub_is_not_fetched_for_a_local_file(tmp_path):
    needs("open_clip", "transformers")
    write_word_tokenizer(tmp_path / "whole")
    text = {"context_length": 12, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1,
            "hf_tokenizer_name": "org/that-is-on-the-hub"}  # fmt: skip
    write_open_clip(tmp_path / "whole", text_cfg=text)
    whole = open_embedder(f"open_clip:{tmp_path}/whole")
    assert whole.texts(["a red dog"]).shape == (1, 32)
    (tmp_path / "whole/tokenizer.json").unlink()
    with pytest.raises(DataError, match="name a folder that has its files"):
        open_embedder(f"open_clip:{tmp_path}/whole")


class Grey:
    """The smallest encoder that a package can bring: three numbers a picture."""

    name, dim, identity = "grey", 3, "v1"

    def preprocess(self, image):
        return np.asarray(image.resize((1, 1)), np.float32).reshape(3) + 1

    def images(self, batch):
        return np.stack(batch)


def bring(monkeypatch, **kinds):
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [EntryPoint(name, value, group) for name, value in kinds.items()]
    )


def open_grey(name, device):
    if name == "none":
        raise ValueError("no such model")
    made = Grey()
    if name == "wide":
        made.images = lambda batch: np.zeros((len(batch), 5))
    if name == "nameless":
        made.identity = ""
    return made


def test_a_package_brings_its_own_kind(monkeypatch):
    bring(monkeypatch, grey="test_encoders:open_grey")
    embedder = open_embedder("grey:any")
    assert (embedder.spec, embedder.identity, embedder.D, embedder.reads_texts) == ("grey:any", "grey:v1", 3, False)
    assert np.allclose(embedder.images([Image.new("RGB", (9, 9), (9, 9, 9))]), np.full((1, 3), 3**-0.5))
    with pytest.raises(DataError, match=r"expected 3 finite numbers for each of 1 pictures, got \(1, 5\)"):
        open_embedder("grey:wide").images([Image.new("RGB", (9, 9))])
    with pytest.raises(DataError, match="text `identity`"):
        open_embedder("grey:nameless")
    with pytest.raises(DataError, match="test_encoders:open_grey cannot open the model: ValueError: no such model"):
        open_embedder("grey:none")
    with pytest.raises(UsageError, match=r"expected one of open_clip:.*demo, grey:NAME; got 'blue:x'"):
        open_embedder("blue:x")


def failing(*arguments):
    raise RuntimeError("no such kernel\nmore lines")


@pytest.mark.parametrize("method", ["preprocess", "images", "texts"])
def test_an_error_of_a_library_is_one_sentence(tmp_path, method):
    encoder = Grey()
    setattr(encoder, method, failing)
    embedder = ModelEmbedder(encoder, "grey:any", "grey")
    embedded, encode = [], embedder.encode
    embedder.encode = lambda batch: embedded.append(len(batch)) or encode(batch)
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.new("RGB", (9, 9), (9, number, 9)).save(tmp_path / f"in/{number}.png")
    with pytest.raises(DataError, match=r"grey:any: the model cannot embed .* \(RuntimeError: no such kernel\)"):
        ingest(tmp_path / "in", tmp_path / "c", embedder=embedder, head="none")
    assert method == "images" or not embedded


def test_the_middle_of_a_picture_of_extreme_sides_is_embedded():
    seen = []
    encoder = Grey()
    encoder.preprocess = lambda image: seen.append(image) or Grey.preprocess(encoder, image)
    embedder = ModelEmbedder(encoder, "grey:any", "grey")
    for size in ((30_000, 1), (1, 101), (500, 5), (9, 9)):
        image = Image.new("RGB", size, "red")
        image.putpixel((size[0] // 2, size[1] // 2), (0, 0, 255))
        embedder.preprocess(image)
    assert [image.size for image in seen] == [(100, 1), (1, 100), (500, 5), (9, 9)]
    assert all((0, 0, 255) in image.get_flattened_data() for image in seen)


def test_two_packages_with_one_kind_are_told_apart(monkeypatch):
    points = [EntryPoint("grey", f"{package}:open", registry.GROUP) for package in ("one", "two")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(UsageError, match="one:open and two:open; uninstall one"):
        open_embedder("grey:x")
