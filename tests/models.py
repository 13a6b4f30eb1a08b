"""Tiny models with random weights, as files that the loaders of encoders open."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = ["a", "photo", "of", "dog", "cat", "red", "two", "bicycle"]


def pictures(count: int = 3) -> list[Image.Image]:
    """Return RGB pictures of noise in odd sizes, wide and high ones."""
    rng = np.random.default_rng(0)
    sizes = [(50, 41), (33, 90), (64, 64), (47, 46)]
    return [Image.fromarray(rng.integers(0, 256, (*sizes[at % len(sizes)], 3), np.uint8)) for at in range(count)]


def unit(rows) -> np.ndarray:
    """Return rows scaled to unit length, float32."""
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_word_tokenizer(folder: Path) -> None:
    """Write the tokenizer.json of a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["<pad>", "<unk>", "<s>", "</s>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "pad_token": "<pad>",
                "unk_token": "<unk>",
                "eos_token": "</s>",
                "bos_token": "<s>",
                "model_max_length": 12,
            }
        )
    )


TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16,
        "max_position_embeddings": 12, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": 32, "patch_size": 16}  # fmt: skip


def write_transformers(folder: Path, kind: str) -> None:
    """Write a model of transformers with its processor: clip, siglip, siglip2, dinov2, dinov3, vit or bert."""
    import torch
    import transformers as tf

    torch.manual_seed(0)
    square = {"height": 32, "width": 32}
    patches = {name: value for name, value in VISION.items() if name != "image_size"} | {"num_patches": 16}
    alone = VISION | {"patch_size": 8}
    made = {
        "clip": lambda: (
            tf.CLIPModel(tf.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24)),
            tf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=square),
        ),
        "siglip": lambda: (
            tf.SiglipModel(tf.SiglipConfig(text_config=TEXT, vision_config=VISION)),
            tf.SiglipImageProcessorPil(size=square),
        ),
        "siglip2": lambda: (
            tf.Siglip2Model(tf.Siglip2Config(text_config=TEXT, vision_config=patches)),
            tf.Siglip2ImageProcessorPil(patch_size=16, max_num_patches=16),
        ),
        "dinov2": lambda: (
            tf.Dinov2Model(tf.Dinov2Config(**alone)),
            tf.BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=square),
        ),
        "dinov3": lambda: (tf.DINOv3ViTModel(tf.DINOv3ViTConfig(**alone)), tf.DINOv3ViTImageProcessor(size=square)),
        "vit": lambda: (
            tf.ViTModel(tf.ViTConfig(**alone), add_pooling_layer=False),
            tf.ViTImageProcessorPil(size=square),
        ),
        "bert": lambda: (tf.BertModel(tf.BertConfig(**TEXT)), tf.ViTImageProcessorPil(size=square)),
    }
    model, processor = made[kind]()
    tf.utils.logging.disable_progress_bar()
    write_word_tokenizer(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def write_sentence_transformers(folder: Path, source: Path) -> None:
    """Write a model of sentence-transformers of a model of transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    SentenceTransformer(modules=[Transformer(str(source))]).save(str(folder))


ONNX = {
    "image": {"graph": "image.onnx", "size": 16, "resize": "shortest", "interpolation": "bicubic",
              "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    "text": {"graph": "text.onnx", "tokenizer": "tokenizer.json", "length": 8, "pad": 0},
}  # fmt: skip


def write_onnx(folder: Path, *, texts: bool = True, rows: str = "batch") -> dict[str, np.ndarray]:
    """Write a model of two graphs: linear in the pixels, and the mean of the words' rows. Returns its weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "pixels": rng.standard_normal((3 * 16 * 16, 8)).astype(np.float32),
        "words": rng.standard_normal((16, 8)).astype(np.float32),
    }

    def save(name, nodes, inputs, weight):
        output = helper.make_tensor_value_info("embeds", TensorProto.FLOAT, [rows, 8])
        graph = helper.make_graph(nodes, name, inputs, [output], [numpy_helper.from_array(weights[weight], weight)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        onnx.save(model, folder / f"{name}.onnx")

    folder.mkdir(parents=True, exist_ok=True)
    save(
        "image",
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "pixels"], ["embeds"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 3, 16, 16])],
        "pixels",
    )
    if texts:
        write_word_tokenizer(folder)
        save(
            "text",
            [
                helper.make_node("Gather", ["words", "input_ids"], ["each"]),
                helper.make_node("ReduceMean", ["each"], ["embeds"], axes=[1], keepdims=0),
            ],
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [rows, "length"])],
            "words",
        )
    config = ONNX if texts else {"image": ONNX["image"]}
    (folder / "encoder.json").write_text(json.dumps(config))
    return weights


OPEN_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def write_open_clip(folder: Path, preprocess: dict | None = None, **config) -> None:
    """Write a folder of open_clip: open_clip_config.json and weights; config: more keys of the model."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    described = {"model_cfg": OPEN_CLIP | config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    built = {name: value for name, value in (OPEN_CLIP | config).items() if name != "custom_text"}
    model = open_clip.CLIP(**built) if "custom_text" not in config else open_clip.CustomTextCLIP(**built)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
