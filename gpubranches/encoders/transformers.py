"""Models of transformers: SigLIP, CLIP and similar models with texts; DINO and others of pictures alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.model_files import (
    files_digest,
    loading,
    model_folder,
    no_network,
    read_json,
    require_tokenizer,
)
from gpubranches.encoders.torch_device import TorchDevice
from gpubranches.encoders.torchvision_ops import declare_torchvision_ops
from gpubranches.errors import DataError, UsageError, missing_package

if TYPE_CHECKING:
    from PIL.Image import Image

FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
)
"""The files that are read, and that are downloaded from the Hub."""
_PADDED = ("siglip", "siglip2")
"""Types of models whose texts are always padded to the full length, as in their training."""


class TransformersEncoder:
    """A model of pictures; the embedding is the pooled output.

    spec: the name that `open_model` opens it by. identity: the digest of its files.
    """

    def __init__(self, spec: str, folder: Path, model: Any, processor: Any, device: TorchDevice):
        self.spec = spec
        self.name = folder.name if spec == str(folder) else spec
        self.identity = files_digest(folder, FILES)
        self._device = device
        self.batch_size = device.batch_size
        self._model = device.place(model)
        self._processor = processor
        self.dim = self._probe_dim()

    def preprocess(self, image: Image) -> dict[str, NDArray[Any]]:
        """Return the model's input for one picture: arrays with a first dim of 1."""
        return {name: np.asarray(value) for name, value in self._processor(images=image, return_tensors="np").items()}

    def images(self, batch: list[dict[str, NDArray[Any]]]) -> NDArray[np.float32]:
        """Return embeddings, (m, dim) float32."""
        joined = {name: np.concatenate([each[name] for each in batch]) for name in batch[0]}
        tensors = {name: self._device.torch.from_numpy(array) for name, array in joined.items()}
        return self._device.rows(self._encode_images, tensors)

    def _encode_images(self, batch: Any) -> Any:
        return self._model(**batch).pooler_output

    def _probe_dim(self) -> int:
        """Return the dims of the embedding of a grey picture. Raises UsageError if the model gives none."""
        from PIL import Image as pictures

        try:
            rows = self.images([self.preprocess(pictures.new("RGB", (64, 64), "grey"))])
            if rows.ndim != 2:
                raise ValueError(f"the shape of its output is {rows.shape}")
        except (AttributeError, TypeError, ValueError) as error:
            raise UsageError(
                f"transformers:{self.spec}: expected a model with one vector per picture, such as SigLIP, CLIP or "
                f"DINO, got {type(self._model).__name__}: {error}"
            ) from error
        return int(rows.shape[1])


class TransformersTextEncoder(TransformersEncoder):
    """A model of pictures and texts in one space, such as SigLIP and CLIP."""

    def __init__(self, spec: str, folder: Path, model: Any, processor: Any, tokenizer: Any, device: TorchDevice):
        super().__init__(spec, folder, model, processor, device)
        self._tokenizer = tokenizer
        config = model.config
        self._padding = "max_length" if config.model_type in _PADDED else "longest"
        limits = (getattr(config.text_config, "max_position_embeddings", None), tokenizer.model_max_length)
        self._length = min(limit for limit in limits if limit)

    def texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return embeddings, (q, dim) float32."""
        with self._device.turn:  # a tokenizer serves one thread at a time
            tokens = self._tokenizer(
                texts, padding=self._padding, truncation=True, max_length=self._length, return_tensors="pt"
            )
        return self._device.rows(self._encode_texts, dict(tokens))

    def _encode_images(self, batch: Any) -> Any:
        return self._model.get_image_features(**batch).pooler_output

    def _encode_texts(self, batch: Any) -> Any:
        return self._model.get_text_features(**batch).pooler_output


def open_model(name: str, *, device: str = "auto") -> TransformersEncoder:
    """Open the model of a folder, or the Hub model ORG/NAME, which is downloaded unless it is in the cache.

    Only safetensors are read, and no code of a model is run. Raises UsageError for a model without an embedding of
    pictures, DataError for files that are missing or damaged, BackendUnavailableError without the [transformers] extra.
    """
    transformers = import_transformers("transformers")
    chosen = TorchDevice(device)
    folder = model_folder("transformers", name, FILES)
    spec = str(folder) if Path(name).expanduser().is_dir() else name
    read_json(folder / "config.json")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with loading(f"transformers:{name}", "check the files of the folder"), no_network(), quiet(transformers):
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **options)
        model, info = transformers.AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype="float32", output_loading_info=True, **options
        )
        reads_texts = hasattr(model, "get_image_features") and hasattr(model, "get_text_features")
        if reads_texts:
            require_tokenizer(f"transformers:{name}", folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options) if reads_texts else None
    if missing := sorted(info["missing_keys"]):
        raise DataError(
            f"transformers:{name}: expected weights of every part of {type(model).__name__}, {len(missing)} are "
            f"missing, such as {missing[0]}; get the whole model"
        )
    if tokenizer is None:
        return TransformersEncoder(spec, folder, model, processor, chosen)
    return TransformersTextEncoder(spec, folder, model, processor, tokenizer, chosen)


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Hide the progress bars and warnings of transformers while it loads a model."""
    logs = transformers.utils.logging
    shown, level = logs.is_progress_bar_enabled(), logs.get_verbosity()
    logs.disable_progress_bar()
    logs.set_verbosity_error()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if shown:
            logs.enable_progress_bar()


def import_transformers(extra: str) -> Any:
    """Import transformers, or raise BackendUnavailableError naming the extra."""
    try:
        import torch  # noqa: F401

        declare_torchvision_ops()
        import transformers
    except ImportError as error:
        raise missing_package("the model", "torch and transformers", extra, error=error) from error
    return transformers
