"""The embedder of the demo: a tiny open_clip model, trained on scenes of simple shapes and texts about them.

`scripts/train_demo_model` makes the weights, `demo.safetensors`, and the configuration, `demo.json`, beside this file.
"""

from __future__ import annotations

import difflib
import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.embedding_space import digest
from gpubranches.encoders.torch_device import import_torch
from gpubranches.errors import CatalogFormatError, UnknownNameError, UsageError, missing_package

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

_FOLDER = Path(__file__).resolve().parent
WEIGHTS = _FOLDER / "demo.safetensors"
CONFIG = _FOLDER / "demo.json"
TEXT_MEAN = "text_mean"
"""Name of the tensor with the mean of the text embeddings, in the file of the weights."""
_WHAT = "the demo model"
_EXAMPLES = ("red heart", "two yellow stars", "striped circle")


class WordTokenizer:
    """Maps words to tokens. Several words may share a token; words with the token None are skipped.

    words: each known word in lower case with its token, 1 to end - 1; context_length: the number of tokens that a text
    may have, with the end; end: the last token of each text. It is the largest token, because open_clip's "argmax"
    pooling reads the text at the largest one.
    """

    def __init__(self, words: dict[str, int | None], *, context_length: int, end: int):
        self.words = words
        self.context_length = context_length
        self.end = end

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return tokens, (q, context_length) int64, padded with 0.

        Raises UnknownNameError for unknown words, with a text of known ones, and UsageError for texts with
        no token or too many.
        """
        rows = np.zeros((len(texts), self.context_length), np.int64)
        for row, text in zip(rows, texts, strict=True):
            tokens = self._tokens(text)
            row[: len(tokens)] = tokens
            row[len(tokens)] = self.end
        return rows

    def _tokens(self, text: str) -> list[int]:
        words = re.findall(r"\w+", text.lower())
        unknown = [word for word in words if word not in self.words]
        if unknown:
            raise self._unknown(text.lower(), unknown)
        tokens = [token for word in words if (token := self.words[word]) is not None]
        if not tokens:
            raise UsageError(
                f"text: expected words such as 'two red triangles', got {text!r}; name a shape or a colour"
            )
        if len(tokens) >= self.context_length:
            raise UsageError(
                f"text: expected at most {self.context_length - 1} words with a meaning, got {len(tokens)}; shorten it"
            )
        return tokens

    def _unknown(self, text: str, words: list[str]) -> UnknownNameError:
        telling = [word for word, token in self.words.items() if token is not None]
        near = {word: difflib.get_close_matches(word, telling, 1) for word in words}
        mended = re.sub(r"\w+", lambda word: "".join(near.get(word[0], [word[0]])), text)
        suggestions = (mended,) if all(near.values()) else _EXAMPLES
        return UnknownNameError(
            f"text: expected shapes, colours and numbers up to four, which the demo's model knows, got "
            f"{', '.join(words)}; try, for example, {' or '.join(suggestions)}",
            ", ".join(words),
            len(telling),
            suggestions,
        )


class DemoEmbedder:
    """The model as an embedder.

    identity: digest of weights and configuration; text_mean: (D,) float32, the mean over names of scenes; spec: "demo".
    """

    spec = "demo"
    training_texts: ClassVar[list[str]] = []
    reads_images = True
    reads_texts = True

    def __init__(self, device: str = "auto"):
        config, weights = _read()
        torch = import_torch(_WHAT)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.config: dict[str, Any] = config
        self.D = int(config["model"]["embed_dim"])
        self.identity = (
            f"demo:{digest(json.dumps(config, sort_keys=True), *(weights[name] for name in sorted(weights)))}"
        )
        self.text_mean: NDArray[np.float32] = weights.pop(TEXT_MEAN).astype(np.float32)
        self.tokenizer = tokenizer(config)
        self._device = device
        self._model = build_model(config).to(device)
        self._model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()})
        self._model.float().eval()
        self._lock = threading.Lock()

    def texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return unit embeddings of texts, (q, D) float32. Raises UsageError as `WordTokenizer` does."""
        tokens = import_torch(_WHAT).from_numpy(self.tokenizer(texts))
        return self._embed(self._model.encode_text, tokens)

    def preprocess(self, image: Image) -> NDArray[np.uint8]:
        """Return the pixels of a picture at the size of the model, (size, size, 3) uint8."""
        return preprocess(image, self.config["image_size"])

    def encode(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the embeddings of preprocessed pictures, (m, D) float32, unit rows."""
        if not images:
            return np.zeros((0, self.D), np.float32)
        return self._embed(self._model.encode_image, as_input(np.stack(images), self.config))

    def images(self, images: list[Image]) -> NDArray[np.float32]:
        """Return the embeddings of pictures, (m, D) float32, unit rows."""
        return self.encode([self.preprocess(image) for image in images])

    def _embed(self, tower: Any, batch: Any) -> NDArray[np.float32]:
        torch = import_torch(_WHAT)
        if len(batch) == 0:
            return np.zeros((0, self.D), np.float32)
        with self._lock, torch.inference_mode():
            rows: NDArray[np.float32] = tower(batch.to(self._device), normalize=True).cpu().numpy()
        return rows


def tokenizer(config: dict[str, Any]) -> WordTokenizer:
    """Return the tokenizer that a configuration describes."""
    text = config["model"]["text_cfg"]
    return WordTokenizer(config["words"], context_length=text["context_length"], end=text["vocab_size"] - 1)


def preprocess(image: Image, size: int) -> NDArray[np.uint8]:
    """Return the centre square of a picture, scaled to (size, size, 3) uint8."""
    from PIL import Image as images
    from PIL import ImageOps

    square = ImageOps.fit(image.convert("RGB"), (size, size), images.Resampling.BICUBIC)
    return np.asarray(square, np.uint8)


def as_input(pixels: NDArray[np.uint8], config: dict[str, Any]) -> Any:
    """Convert pixels, (m, size, size, 3) uint8, to the tower's input, a (m, 3, size, size) float32 tensor."""
    torch = import_torch(_WHAT)
    mean, std = torch.tensor(config["mean"]) * 255, torch.tensor(config["std"]) * 255
    return ((torch.from_numpy(pixels) - mean) / std).permute(0, 3, 1, 2)


def build_model(config: dict[str, Any]) -> Any:
    """Return an untrained open_clip CLIP with a given configuration."""
    import_torch(_WHAT)
    try:
        from gpubranches.encoders.torchvision_ops import declare_torchvision_ops

        declare_torchvision_ops()
        from open_clip.model import CLIP
    except ImportError as error:
        raise missing_package(_WHAT, "torch and open_clip", "clip", error=error) from error
    return CLIP(**config["model"])


def _read() -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        config: dict[str, Any] = json.loads(CONFIG.read_text(encoding="utf-8"))
        return config, load_file(WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CatalogFormatError(
            f"expected the demo's model in {WEIGHTS} and {CONFIG}, got {error}; install gpubranches again"
        ) from error
