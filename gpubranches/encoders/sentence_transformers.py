"""Models of sentence-transformers that embed pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.model_files import files_digest, loading, model_folder, no_network, require_tokenizer
from gpubranches.encoders.torch_device import TorchDevice
from gpubranches.encoders.transformers import import_transformers, quiet
from gpubranches.errors import UsageError, missing_package

if TYPE_CHECKING:
    from PIL.Image import Image

FILES = ("*.json", "*.safetensors", "vocab*", "merges.txt", "*.model", "*/*.json", "*/*.safetensors", "*/vocab*",
         "*/merges.txt", "*/*.model")  # fmt: skip
"""The files that are read, and that are downloaded from the Hub."""


class SentenceTransformersEncoder:
    """A model of sentence-transformers.

    Texts are embedded as queries, with the model's query prompt if it has one. spec: the name that `open_model` opens
    it by. identity: the digest of its files.
    """

    def __init__(self, spec: str, folder: Path, model: Any, device: TorchDevice):
        self.spec = spec
        self.name = folder.name if spec == str(folder) else spec
        self.identity = files_digest(folder, FILES)
        self._device = device
        self.batch_size = device.batch_size
        self._model = device.place(model)
        self.dim = int(model.get_embedding_dimension())
        self.texts = self._texts if model.supports("text") else None

    def preprocess(self, image: Image) -> dict[str, Any]:
        """Return the model's input for one picture: tensors with a first dim of 1, and other values."""
        prepared: dict[str, Any] = self._model.preprocess([image])
        return prepared

    def images(self, batch: list[dict[str, Any]]) -> NDArray[np.float32]:
        """Return embeddings, (m, dim) float32; pictures of the same shape are embedded together."""
        rows = np.empty((len(batch), self.dim), np.float32)
        groups: dict[Any, list[int]] = {}
        for number, each in enumerate(batch):
            groups.setdefault(self._shapes(each), []).append(number)
        for numbers in groups.values():
            rows[numbers] = self._embedded([batch[number] for number in numbers])
        return rows

    def _shapes(self, prepared: dict[str, Any]) -> Any:
        return tuple((name, tuple(value.shape)) for name, value in self._tensors(prepared).items())

    def _tensors(self, prepared: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in prepared.items() if self._device.torch.is_tensor(value)}

    def _embedded(self, batch: list[dict[str, Any]]) -> NDArray[np.float32]:
        tensors = [self._tensors(each) for each in batch]
        joined = {name: self._device.torch.cat([each[name] for each in tensors]) for name in tensors[0]}
        rest = {name: value for name, value in batch[0].items() if name not in joined}
        lists = {name for name, value in rest.items() if isinstance(value, list)}

        def forward(part: Any) -> Any:
            count = len(next(iter(part.values())))
            others = {name: value * count if name in lists else value for name, value in rest.items()}
            return self._model({**part, **others})["sentence_embedding"][:, : self.dim]

        return self._device.rows(forward, joined)

    def _texts(self, texts: list[str]) -> NDArray[np.float32]:
        with self._device.turn:
            rows: NDArray[np.float32] = self._model.encode_query(texts, show_progress_bar=False)
        return rows


def open_model(name: str, *, device: str = "auto") -> SentenceTransformersEncoder:
    """Open the model of a folder, or the Hub model ORG/NAME, which is downloaded unless it is in the cache.

    Only safetensors are read, and no code of a model is run. Raises UsageError for a model that reads no pictures,
    DataError for files that are missing or damaged, BackendUnavailableError without the [sentence-transformers] extra.
    """
    transformers = import_transformers("sentence-transformers")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise missing_package("the model", "sentence-transformers", "sentence-transformers", error=error) from error
    chosen = TorchDevice(device)
    folder = model_folder("sentence-transformers", name, FILES)
    spec = str(folder) if Path(name).expanduser().is_dir() else name
    with loading(f"sentence-transformers:{name}", "check the files of the folder"), no_network(), quiet(transformers):
        model = SentenceTransformer(
            str(folder),
            device=chosen.name,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    if not model.supports("image"):
        raise UsageError(
            f"sentence-transformers:{name}: expected a model that reads pictures, got one of "
            f"{', '.join(map(str, model.modalities))}"
        )
    if model.supports("text"):
        require_tokenizer(f"sentence-transformers:{name}", folder)
    return SentenceTransformersEncoder(spec, folder, model, chosen)
