import json
import subprocess
import sys

import numpy as np
import pytest

from gpubranches import VocabularyEmbedder
from gpubranches.encoders import open_embedder
from gpubranches.errors import CatalogFormatError, DataError, UnknownNameError, UsageError

NAMES = ["grand_piano", "Kangaroo", "car", "car wheel", "kangaroo rat"]


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "emb.npy", np.random.default_rng(0).standard_normal((5, 16)).astype(np.float16) * 3)
    (tmp_path / "names.json").write_text(json.dumps(NAMES))
    return tmp_path / "emb.npy", tmp_path / "names.json"


def test_a_vocabulary_answers_names_and_beginnings(files):
    embedder = VocabularyEmbedder.load(*files)
    rows = embedder.texts(["Grand piano", "kangaroo", "CAR", "car w", "grand"])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    unit = embedder.texts(NAMES)
    assert np.array_equal(rows, unit[[0, 1, 2, 3, 0]])
    assert np.allclose(embedder.text_mean, unit.mean(axis=0), atol=1e-6)
    assert open_embedder(f"vocabulary:{files[0]},{files[1]}").identity == embedder.identity
    assert open_embedder(embedder.spec).identity == embedder.identity


def test_a_name_it_lacks_gets_suggestions(files):
    embedder = VocabularyEmbedder.load(*files)
    with pytest.raises(UsageError, match=r"'kangoroo'; perhaps kangaroo"):
        embedder.texts(["kangoroo"])
    with pytest.raises(UsageError, match="such as grand_piano"):
        embedder.texts(["zzzz"])
    with pytest.raises(UsageError, match="needs a model"):
        embedder.images([])


def test_wrong_vocabularies_are_refused_naming_the_file(files, tmp_path):
    (tmp_path / "short.json").write_text('["one"]')
    (tmp_path / "dict.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("[")
    np.save(tmp_path / "flat.npy", np.zeros(5, np.float32))
    np.save(tmp_path / "nan.npy", np.full((5, 4), np.nan, np.float32))
    for emb, names, says in [
        (files[0], tmp_path / "short.json", "expected 5 names"),
        (files[0], tmp_path / "dict.json", "list of strings"),
        (files[0], tmp_path / "broken.json", "JSON list"),
        (tmp_path / "flat.npy", files[1], r"flat.*\(5,\)"),
        (tmp_path / "nan.npy", files[1], "finite"),
        (tmp_path / "no.npy", files[1], r"no\.npy"),
        (files[1], files[1], r"names\.json"),
    ]:
        with pytest.raises(CatalogFormatError, match=says):
            VocabularyEmbedder.load(emb, names)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "one of open_clip:MODEL/PRETRAINED, .*onnx:FOLDER.*demo; got ''"),
        ("clip", "one of open_clip:MODEL/PRETRAINED"),
        ("open_clip:", "expected open_clip:MODEL/PRETRAINED, .*open_clip:hf-hub:ORG/NAME, got"),
        ("vocabulary:one.npy", "expected vocabulary:TEXT_EMB.npy,NAMES.json, got"),
        ("onnx:", "expected onnx:FOLDER, got"),
        ("demo:x", "expected demo, got"),
    ],
)
def test_an_unknown_spec_lists_what_there_is(spec, says):
    with pytest.raises(UsageError, match=says):
        open_embedder(spec)


CLIP = """
import json, sys, warnings
from pathlib import Path
import numpy as np
from gpubranches.encoders.torchvision_ops import declare_torchvision_ops
declare_torchvision_ops()
import open_clip, torch
from safetensors.torch import save_file
from PIL import Image
from gpubranches.encoders import open_embedder
from gpubranches.errors import GpuBranchesError

folder = Path(sys.argv[1])
config = {"embed_dim": 32,
          "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32},
          "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}}
(folder / "Tiny-Test.json").write_text(json.dumps(config))
open_clip.add_model_config(folder)
torch.manual_seed(0)
model = open_clip.create_model("Tiny-Test")
save_file(model.state_dict(), folder / "tiny.safetensors")
torch.save(model.state_dict(), folder / "tiny.pt")
(folder / "junk.pt").write_bytes(b"junk")
one = open_embedder(f"open_clip:Tiny-Test,{folder}/tiny.safetensors")
two = open_embedder(f"open_clip:Tiny-Test,{folder}/tiny.pt")
image = Image.new("RGB", (50, 40), "red")
assert one.D == 32 and one.images([image, image]).shape == (2, 32) and one.encode([]).shape == (0, 32)
assert np.allclose(one.texts(["a dog"]), two.texts(["a dog"]), atol=1e-5)
assert np.allclose(np.linalg.norm(one.images([image]), axis=1), 1, atol=1e-5)
assert one.identity != two.identity and one.text_mean.shape == (32,)
assert open_embedder(one.spec).identity == one.identity
for spec in (f"open_clip:Tiny-Test,{folder}/junk.pt", f"open_clip:Tiny-Test,{folder}/none.pt", "open_clip:No-Model/tag",
             "open_clip:ViT-B-32/no_such_tag", "open_clip:ViT-B-32/laion2b_s34b_b79k"):
    try:
        open_embedder(spec)
    except GpuBranchesError as error:
        print(type(error).__name__, error)
"""


def test_open_clip_models_load_from_local_files_and_nothing_unsafe(tmp_path):
    pytest.importorskip("torch", reason="the [clip] extra is not installed")
    command = [sys.executable, "-W", "ignore", "-c", CLIP, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "Error" in line]
    assert [line.split()[0] for line in lines] == [DataError.__name__] * 2 + [UsageError.__name__] * 2 + [
        DataError.__name__
    ]
    assert "laion2b" in lines[-1]


def test_case_an_article_and_the_plural_find_a_name(tmp_path):
    names = ["dog", "kangaroo", "motorcycle", "glass", "butterfly", "dogs in snow"]
    embedder = VocabularyEmbedder(np.eye(6, dtype=np.float32), names)
    found = embedder.texts(["Dogs", "a kangaroo", "The Motorcycles", "glasses", "butterflies", "dogs in"])
    assert found.argmax(axis=1).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(UnknownNameError) as refused:
        embedder.texts(["motorbikes"])
    assert refused.value.meant == "motorcycle"
    assert "motorcycle" in refused.value.suggestions
    with pytest.raises(UnknownNameError) as refused:
        embedder.texts(["x" * 3000])
    assert (refused.value.meant, len(str(refused.value)) < 300) == ("", True)
