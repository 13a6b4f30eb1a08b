"""Models of open_clip: tags, weights in a file, folders, and models of the Hub."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.embedding_space import digest
from gpubranches.encoders.model_files import (
    file_digest,
    files_digest,
    loading,
    network,
    no_network,
    read_json,
    require_transformers,
    require_whole,
)
from gpubranches.encoders.torch_device import TorchDevice
from gpubranches.encoders.torchvision_ops import declare_torchvision_ops
from gpubranches.errors import DataError, UsageError, missing_package

if TYPE_CHECKING:
    from PIL.Image import Image

_log = logging.getLogger(__name__)

HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
_FILES = (
    CONFIG,
    "*.safetensors",
    "*.bin",
    "*.pth",
    "token*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
)
_SETTINGS = {"mean": "image_mean", "std": "image_std", "interpolation": "image_interpolation",
             "resize_mode": "image_resize_mode"}  # fmt: skip
"""The keys of a tag that define the preprocessing of pictures, and open_clip's names of the arguments."""


class OpenClipEncoder:
    """A model of open_clip, with a tower for pictures and one for texts, both of `dim` dims.

    spec: the name that `open_model` opens it by. Pictures are resized and cropped as open_clip does, in 8 bits, and
    normalised as a batch on the device.
    """

    def __init__(self, plan: _Plan, model: Any, transform: Any, tokenizer: Any, device: TorchDevice):
        self.spec = plan.spec
        self.name = Path(plan.spec).name if plan.spec.startswith("/") else plan.spec
        self.identity = plan.identity
        self.dim = int(plan.config["embed_dim"])
        self._device = device
        self.batch_size = device.batch_size
        self._model = device.place(model)
        self._tokenizer = tokenizer
        *self._geometry, _, normalise = transform.transforms  # resize, crop, RGB; to tensor; normalise
        torch = device.torch
        self._mean = torch.tensor(normalise.mean).view(3, 1, 1)
        self._std = torch.tensor(normalise.std).view(3, 1, 1)

    def preprocess(self, image: Image) -> NDArray[np.uint8]:
        """Return the pixels of a picture, resized and cropped, (height, width, 3) uint8."""
        for step in self._geometry:
            image = step(image)
        return np.asarray(image, np.uint8)

    def images(self, batch: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return embeddings, (m, dim) float32."""
        pixels = self._device.torch.from_numpy(np.stack(batch))
        return self._device.rows(self._encode_images, {"pixels": pixels})

    def texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return embeddings, (q, dim) float32."""
        with self._device.turn:  # a tokenizer of transformers serves one thread at a time
            tokens = self._tokenizer(texts)
        return self._device.rows(lambda batch: self._model.encode_text(batch["tokens"]), {"tokens": tokens})

    def _encode_images(self, batch: Any) -> Any:
        pixels = batch["pixels"].permute(0, 3, 1, 2).float().div_(255)  # in place: a batch is a hundred megabytes
        mean, std = (tensor.to(pixels.device) for tensor in (self._mean, self._std))
        return self._model.encode_image(pixels.sub_(mean).div_(std))


@dataclass(frozen=True)
class _Plan:
    """The plan by which a model is made.

    spec, identity: of the encoder; config: open_clip's configuration of the model; make: returns model and transform;
    tokenizer: open_clip's name of the tokenizer; local: whether the network must not be used.
    """

    spec: str
    identity: str
    config: dict[str, Any]
    make: Callable[[], tuple[Any, Any]]
    tokenizer: str
    local: bool


def open_model(name: str, *, device: str = "auto", identity: str = "") -> OpenClipEncoder:
    """Open a model by its name, which has one of these forms.

    MODEL/TAG: a model and tag that the installed open_clip lists; its weights are downloaded unless they are in the
    cache. MODEL/TAG,FILE: the same with the weights of a file (.pt, .safetensors). MODEL,FILE: a model with the weights
    of a file; the preprocessing is that of its tags if they all agree, else open_clip's default. FOLDER: a folder with
    open_clip_config.json and weights. hf-hub:ORG/NAME: the same files from the Hub. Only the first and the last form
    use the network.

    Activation and preprocessing are those of the tag or of the configuration. identity: of the catalog whose own model
    this is. Weights are read with `weights_only`, so they cannot run code. Raises UsageError for an unknown model or
    tag; DataError for weights that cannot be read; BackendUnavailableError without the [clip] extra, and, before a
    download, for a tokenizer that needs transformers.
    """
    open_clip = _import()
    chosen = TorchDevice(device)
    plan = _plan(open_clip, name, identity.removeprefix("open_clip:"))
    _require_tokenizer(name, plan.config)
    advice = (
        "check the files; where the tokenizer is one of the Hub, name a folder that has its files, too"
        if plan.local
        else "check the network and HF_HUB_OFFLINE"
    )
    with loading(f"open_clip:{name}", advice), no_network() if plan.local else network(f"open_clip:{name}"):
        model, transform = plan.make()
        tokenizer = open_clip.get_tokenizer(plan.tokenizer)
    return OpenClipEncoder(plan, model, transform, tokenizer, chosen)


def _plan(open_clip: Any, name: str, identity: str) -> _Plan:
    if name.startswith(HUB):
        return _of_hub(open_clip, name)
    if Path(name).expanduser().is_dir():
        return _of_folder(open_clip, Path(name).expanduser().resolve())
    model, _, path = name.partition(",")
    model, _, tag = model.partition("/")
    if model not in open_clip.list_models():
        raise UsageError(
            f"embedder: expected a model of open_clip such as ViT-B-32, hf-hub:ORG/NAME or a folder, got {name!r}; "
            "`open_clip.list_pretrained()` lists the models and their tags"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if (tag or not path) and tag not in tags:
        raise UsageError(
            f"embedder: expected {model}/TAG with one of the tags {', '.join(tags) or 'none; name a local file'}; "
            f"got {name!r}"
        )
    if path:
        return _of_file(open_clip, model, tag, Path(path), identity)
    return _of_tag(open_clip, model, tag, as_before=identity == f"{model}/{tag}")


def _of_tag(open_clip: Any, model: str, tag: str, *, as_before: bool) -> _Plan:
    """Plan the model of a tag. as_before: use GELU whatever the tag says, for a catalog of an earlier version."""
    named = _with_activation(open_clip, model, tag)
    if named != model and as_before:
        _log.warning(
            "%s/%s: the embeddings of this catalog were made with GELU, but the weights were trained with QuickGELU; "
            "searches still use GELU, and a new ingest of the pictures gives better embeddings",
            model,
            tag,
        )
        named = model
    spec = f"{named}/{tag}"
    return _Plan(
        spec,
        spec,
        open_clip.get_model_config(named),
        lambda: _create(open_clip, named, pretrained=tag),
        named,
        local=False,
    )


def _of_file(open_clip: Any, model: str, tag: str, file: Path, identity: str) -> _Plan:
    if not file.is_file():
        raise DataError(f"{file}: expected a file of weights (.pt, .safetensors), found none")
    named = _with_activation(open_clip, model, tag) if tag else model
    tags = [tag] if tag else open_clip.list_pretrained_tags_by_model(model)
    known = f"{named}:{file_digest(file)[:16]}"
    settings = {} if identity == known else _settings(open_clip, model, tags)
    return _Plan(
        f"{named}{f'/{tag}' if tag else ''},{file.resolve()}",
        f"{known}:{digest(json.dumps(settings, sort_keys=True))}" if settings else known,
        open_clip.get_model_config(named),
        lambda: _create(open_clip, named, pretrained=str(file), **settings),
        named,
        local=True,
    )


def _of_folder(open_clip: Any, folder: Path) -> _Plan:
    config = _model_config(read_json(folder / CONFIG), folder / CONFIG)
    require_whole(folder, _FILES)
    named = f"local-dir:{folder}"
    return _Plan(
        str(folder),
        files_digest(folder, _FILES),
        config,
        lambda: _create(open_clip, named),
        named,
        local=True,
    )


def _of_hub(open_clip: Any, name: str) -> _Plan:
    repository = name.removeprefix(HUB)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(f"embedder: expected open_clip:hf-hub:ORG/NAME, got open_clip:{name}")
    from open_clip.pretrained import download_pretrained_from_hf

    with (
        loading(f"open_clip:{name}", "check the name on the Hub, the network and HF_HUB_OFFLINE"),
        network(f"open_clip:{name}"),
    ):
        config = Path(download_pretrained_from_hf(repository, filename=CONFIG))
    described = read_json(config)
    model = _model_config(described, config)
    _require_tokenizer(name, model)
    with loading(f"open_clip:{name}", "check the network and HF_HUB_OFFLINE"), network(f"open_clip:{name}"):
        weights = Path(download_pretrained_from_hf(repository))
    return _Plan(
        name,
        digest(json.dumps(described, sort_keys=True), file_digest(weights)),
        model,
        lambda: _create(open_clip, name),
        name,
        local=False,
    )


def _create(open_clip: Any, model: str, **options: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "QuickGELU mismatch")  # decided by `_with_activation`
        created: tuple[Any, Any] = open_clip.create_model_from_pretrained(model, weights_only=True, **options)
    return created


def _model_config(described: dict[str, Any], place: Path) -> dict[str, Any]:
    config = described.get("model_cfg")
    if not isinstance(config, dict) or not isinstance(config.get("embed_dim"), int):
        raise DataError(f"{place}: expected an object `model_cfg` with an int `embed_dim`, got {config!r:.80}")
    return config


def _require_tokenizer(name: str, config: dict[str, Any]) -> None:
    text = config.get("text_cfg", {})
    if text.get("hf_tokenizer_name") or text.get("hf_model_name"):
        require_transformers(f"the tokenizer of open_clip:{name}")


def _with_activation(open_clip: Any, model: str, tag: str) -> str:
    """Return the name of a model with the activation of a tag; open_clip has separate models for QuickGELU."""
    if not open_clip.get_pretrained_cfg(model, tag).get("quick_gelu"):
        return model
    if open_clip.get_model_config(model).get("quick_gelu"):
        return model
    return f"{model}-quickgelu"


def _settings(open_clip: Any, model: str, tags: list[str]) -> dict[str, Any]:
    """Return the preprocessing of tags as arguments of open_clip; {} for its defaults, or if the tags disagree."""
    from open_clip.transform import PreprocessCfg

    usual = PreprocessCfg()
    found = []
    for tag in tags:
        described = open_clip.get_pretrained_cfg(model, tag)
        named = {argument: described.get(key) or getattr(usual, key) for key, argument in _SETTINGS.items()}
        found.append({key: list(value) if isinstance(value, tuple) else value for key, value in named.items()})
    if not found or any(each != found[0] for each in found):
        return {}
    plain = {argument: getattr(usual, key) for key, argument in _SETTINGS.items()}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
    return {} if found[0] == plain else found[0]


def _import() -> Any:
    try:
        import torch  # noqa: F401

        declare_torchvision_ops()
        import open_clip
    except ImportError as error:
        raise missing_package("open_clip", "torch, torchvision and open_clip_torch", "clip", error=error) from error
    return open_clip
