"""Any open_clip model as an embedder, with a pretrained tag or a local file of weights."""

from __future__ import annotations

import hashlib
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.torchvision_ops import declare_torchvision_ops
from gpubranches.errors import DataError, UsageError, missing_package

if TYPE_CHECKING:
    from PIL.Image import Image

_NOUNS = Path(__file__).with_name("nouns.txt")


class OpenClipEmbedder:
    """An open_clip model: two towers into D dims.

    identity: the model's name with its tag, or with the digest of the weights' file; text_mean: (D,) float32, mean of
    the unit embeddings of "a photo of a {noun}" over the nouns shipped in nouns.txt.
    """

    reads_images = True

    def __init__(self, model: Any, preprocess: Any, tokenizer: Any, *, identity: str, spec: str, device: str):
        self.identity = identity
        self.spec = spec
        self._device = device
        self._model = model.to(device).eval()
        self._preprocess = preprocess
        self._tokenizer = tokenizer
        self._turn = threading.Lock()
        self.text_mean: NDArray[np.float32] = self.texts(self.training_texts).mean(axis=0)

    @classmethod
    def load(cls, name: str, *, device: str = "auto") -> OpenClipEmbedder:
        """Open "MODEL/PRETRAINED" (downloaded by open_clip unless cached) or "MODEL,FILE" (.pt, .safetensors).

        Files are read with `weights_only`, so they cannot run code. Raises UsageError for an unknown model or tag,
        DataError for weights that cannot be read, BackendUnavailableError without the [clip] extra.
        """
        open_clip, torch = _import()
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        file = None
        if "," in name:
            architecture, _, path = name.partition(",")
            file = Path(path)
            if not file.is_file():
                raise DataError(f"{file}: expected a file of weights (.pt, .safetensors), found none")
        else:
            architecture, _, tag = name.partition("/")
        if architecture not in open_clip.list_models():
            raise UsageError(f"embedder: expected a model of open_clip such as ViT-B-32, got {architecture!r}")
        if file is None and tag not in open_clip.list_pretrained_tags_by_model(architecture):
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none; name a local file"
            raise UsageError(f"embedder: expected {architecture}/TAG with one of the tags {tags}; got {name!r}")
        weights = tag if file is None else str(file)
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                architecture, pretrained=weights, weights_only=True
            )
            tokenizer = open_clip.get_tokenizer(architecture)
        except Exception as error:  # open_clip raises what its downloader, torch or safetensors raise
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DataError(
                f"{name}: cannot load the weights: {first}; check the file, or the network and HF_HUB_OFFLINE for a tag"
            ) from error
        if file is None:
            return cls(
                model, preprocess, tokenizer, identity=f"open_clip:{name}", spec=f"open_clip:{name}", device=device
            )
        with file.open("rb") as handle:
            sha = hashlib.file_digest(handle, "sha256").hexdigest()[:16]
        spec = f"open_clip:{architecture},{file.resolve()}"
        return cls(model, preprocess, tokenizer, identity=f"open_clip:{architecture}:{sha}", spec=spec, device=device)

    @property
    def D(self) -> int:
        """Embedding dims."""
        return len(self.text_mean)

    @property
    def training_texts(self) -> list[str]:
        """Photos of each of the nouns."""
        return [f"a photo of a {noun}" for noun in nouns()]

    def texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return unit embeddings of texts, (q, D) float32; long texts are cut to the model's context."""
        return self._run(self._model.encode_text, self._tokenizer(texts))

    def images(self, images: list[Image]) -> NDArray[np.float32]:
        """Return unit embeddings of RGB pictures, (m, D) float32."""
        return self.encode([self.preprocess(image) for image in images])

    def preprocess(self, image: Image) -> Any:
        """Return the model's input tensor of one picture."""
        return self._preprocess(image)

    def encode(self, prepared: list[Any]) -> NDArray[np.float32]:
        """Return unit embeddings, (m, D) float32, of preprocessed pictures."""
        if not prepared:
            return np.zeros((0, self.D), np.float32)
        _, torch = _import()
        return self._run(self._model.encode_image, torch.stack(prepared))

    def _run(self, tower: Any, batch: Any) -> NDArray[np.float32]:
        _, torch = _import()
        with self._turn, torch.inference_mode(), self._autocast(torch):
            rows = tower(batch.to(self._device)).float()
            unit: NDArray[np.float32] = torch.nn.functional.normalize(rows, dim=-1).cpu().numpy()
        return unit

    def _autocast(self, torch: Any) -> AbstractContextManager[Any]:
        if self._device.startswith("cuda"):
            autocast: AbstractContextManager[Any] = torch.autocast("cuda", dtype=torch.float16)
            return autocast
        return nullcontext()


def nouns() -> list[str]:
    """Return the common nouns whose mean embedding stands for "any text"."""
    return _NOUNS.read_text(encoding="utf-8").split("\n")[:-1]


def _import() -> tuple[Any, Any]:
    try:
        import torch

        declare_torchvision_ops()
        import open_clip
    except ImportError as error:
        raise missing_package("open_clip", "torch, torchvision and open_clip_torch", "clip", error=error) from error
    return open_clip, torch
