"""The trained head: an image tower, a text tower and a decoder, in NumPy, so that using it does not need torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gpubranches.core.arrays import check_array, unit
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import is_text, parse_json
from gpubranches.errors import ArrayError, UsageError

_BLOCK_ROWS = 2048

Vectors = NDArray[Any]


class TextTower(Protocol):
    """Maps centred unit text embeddings, (q, D) float32, to unit vectors, (q, d) float32."""

    @property
    def kind(self) -> str:
        """Name of the kind of tower in the file."""
        ...

    def __call__(self, rows: Vectors) -> Vectors:
        """Return unit vectors, (q, d) float32."""
        ...

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return its arrays by name."""
        ...


@dataclass(frozen=True)
class Tower:
    """Computes unit(skip x + layers(x)): fully connected layers with ReLU between them, and a linear skip connection.

    skip: (d, D) float32 or None; layers: pairs of weights (out, in) float32 and bias (out,) float32, the last of d
    outputs. One of the two may be absent: a linear tower has no layers, an MLP no skip. Batch normalisation is
    folded into the layers.
    """

    kind = "tower"

    skip: NDArray[Any] | None
    layers: tuple[tuple[NDArray[Any], NDArray[Any]], ...]

    def __call__(self, rows: Vectors) -> Vectors:
        """Return unit vectors, (n, d), of centred unit embeddings, (n, D), of the dtype of the embeddings."""
        out = np.empty((len(rows), self.d), rows.dtype)
        for start in range(0, len(rows), _BLOCK_ROWS):
            out[start : start + _BLOCK_ROWS] = self._block(rows[start : start + _BLOCK_ROWS])
        return out

    def _block(self, rows: Vectors) -> Vectors:
        hidden: Vectors = rows
        for number, (weights, bias) in enumerate(self.layers):
            hidden = hidden @ weights.T + bias
            if number < len(self.layers) - 1:
                np.maximum(hidden, 0, out=hidden)
        if self.skip is None:
            return unit(hidden)
        straight: Vectors = rows @ self.skip.T
        return unit(straight + hidden if self.layers else straight)

    def wide(self) -> Tower:
        """Return the same tower in float64."""
        skip = None if self.skip is None else self.skip.astype(np.float64)
        return Tower(skip, tuple((w.astype(np.float64), b.astype(np.float64)) for w, b in self.layers))

    @property
    def D(self) -> int:
        """Embedding dims."""
        return int((self.layers[0][0] if self.skip is None else self.skip).shape[1])

    @property
    def d(self) -> int:
        """Code dims."""
        return len(self.layers[-1][0] if self.skip is None else self.skip)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return its arrays by name."""
        named: dict[str, NDArray[Any]] = {} if self.skip is None else {"skip": self.skip}
        for number, (weights, bias) in enumerate(self.layers):
            named |= {f"layer{number}.weights": weights, f"layer{number}.bias": bias}
        return named

    @classmethod
    def from_tensors(cls, named: dict[str, NDArray[Any]], D: int, d: int) -> Self:
        """Return the tower of arrays that `tensors` named. Raises ArrayError if they do not fit together."""
        skip = named.get("skip")
        if skip is not None:
            check_array(skip, "skip", dtype=np.float32, shape=(d, D), finite=True)
        layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        width = D
        while (weights := named.get(f"layer{len(layers)}.weights")) is not None:
            check_array(weights, "weights", dtype=np.float32, shape=(None, width), finite=True)
            width = len(weights)
            bias = named[f"layer{len(layers)}.bias"]
            layers.append((weights, check_array(bias, "bias", dtype=np.float32, shape=(width,), finite=True)))
        if (layers and width != d) or (skip is None and not layers):
            raise ArrayError(f"tower: expected layers that end in {d} dims, got {width}")
        return cls(skip, tuple(layers))


@dataclass(frozen=True)
class TextMemory:
    """A text tower that maps a text by its nearest images, and by a linear map.

    unit((1 - share) unit(sum_k softmax_k(<t, key_k> / temperature) value_k) + share unit(linear t)).

    keys: (K, D) float16, centred unit embeddings of images; values: (K, d) float32, the vectors of those images;
    linear: (d, D) float32, which best predicts the cosines of a text with all images from their vectors; 0 <= share
    <= 1. Texts and images lie in different regions of the embedding space, and a tower of 32 dims that was trained on
    images does not extrapolate to texts. The weighted mean of the nearest images lies in the region of images.
    Source: the support memory of DeCap (Li et al., ICLR 2023, section 3.3), there for images among texts.
    """

    kind = "memory"

    keys: NDArray[np.float16]
    values: NDArray[np.float32]
    linear: NDArray[np.float32]
    temperature: float
    share: float

    def __call__(self, rows: Vectors) -> Vectors:
        """Return unit vectors, (q, d) float32, of centred unit text embeddings, (q, D) float32."""
        keys = self.keys.astype(np.float32)
        out = np.empty((len(rows), self.values.shape[1]), np.float32)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[start : start + _BLOCK_ROWS]
            near = block @ keys.T / np.float32(self.temperature)
            remembered = unit(np.exp(near - near.max(axis=1, keepdims=True)) @ self.values)
            straight = unit(block @ self.linear.T)
            out[start : start + _BLOCK_ROWS] = unit((1 - self.share) * remembered + self.share * straight)
        return out

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return its arrays by name."""
        numbers = np.array([self.temperature, self.share], np.float64)
        return {"keys": self.keys, "values": self.values, "linear": self.linear, "numbers": numbers}

    @classmethod
    def from_tensors(cls, named: dict[str, NDArray[Any]], D: int, d: int) -> Self:
        """Return the memory of arrays that `tensors` named. Raises ArrayError if they do not fit together."""
        keys = check_array(named["keys"], "keys", dtype=np.float16, shape=(None, D), finite=True)
        values = check_array(named["values"], "values", dtype=np.float32, shape=(len(keys), d), finite=True)
        linear = check_array(named["linear"], "linear", dtype=np.float32, shape=(d, D), finite=True)
        temperature, share = check_array(named["numbers"], "numbers", dtype=np.float64, shape=(2,)).tolist()
        if not len(keys) or not temperature > 0 or not 0 <= share <= 1:
            raise ArrayError(
                f"memory: expected keys, a temperature above 0 and a share of 0 to 1, got {len(keys)}, {temperature} "
                f"and {share}"
            )
        return cls(keys, values, linear, temperature, share)


_TEXT_TOWERS: dict[str, Callable[[dict[str, NDArray[Any]], int, int], TextTower]] = {
    "tower": Tower.from_tensors,
    "memory": TextMemory.from_tensors,
}


_ABOUT: dict[str, Callable[[Any], bool]] = {
    "d": lambda value: type(value) is int and value > 0,
    "text_tower": lambda value: value == "" or (isinstance(value, str) and value in _TEXT_TOWERS),
    "training": lambda value: isinstance(value, dict) and _is_texts(value.get("names", [])),
    "embedder": lambda value: isinstance(value, str),
}
"""Required entries of the configuration of a trained head, with the check of each."""


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and is_text(text) for text in value)


class TrainedHead:
    """Trained towers over centred unit embeddings; `fit` changes nothing.

    images: the image tower; mean: (D,) float32, the mean of image embeddings; texts: the text tower, None if it has
    none; text_mean: (D,) float32, the mean of text embeddings, with it; config: how it was trained, JSON;
    embedder: identity of what made the embeddings, "" if unknown; decoder: a tower from vectors, (n, d), to centred
    unit embeddings, (n, D), None if it has none.
    """

    kind = "trained"
    code_range = (-1.0, 1.0)
    default_quantizer = "uniform"

    def __init__(
        self,
        images: Tower,
        mean: NDArray[np.float32],
        *,
        texts: TextTower | None = None,
        text_mean: NDArray[np.float32] | None = None,
        decoder: Tower | None = None,
        config: dict[str, Any] | None = None,
        embedder: str = "",
    ):
        self.images = images
        self.texts = texts
        self.decoder = decoder
        self._wide_decoder: Tower | None = None
        self.mean = check_array(mean, "mean", dtype=np.float32, shape=(images.D,), finite=True)
        self.text_mean = text_mean
        if texts is not None:
            check_array(text_mean, "text_mean", dtype=np.float32, shape=(images.D,), finite=True)
        self.config = config or {}
        self.embedder = embedder
        named = self._tensors()
        self.identity = f"trained:{digest(*(part for name in sorted(named) for part in (name, named[name])))}"

    def fit(self, embeddings: NDArray[np.float32]) -> Self:
        """Return self, because the towers are trained by `train`."""
        return self

    def transform(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit vectors, (n, d) float32, of image embeddings, (n, D) float32."""
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, self.D))
        return self.images(unit(embeddings - self.mean))

    def transform_texts(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit vectors, (q, d) float32, of text embeddings, (q, D) float32.

        Raises UsageError without a text tower.
        """
        if self.texts is None or self.text_mean is None:
            raise UsageError("head: it has no tower for texts; train one on a catalog whose model is known")
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, self.D))
        return self.texts(unit(embeddings - self.text_mean))

    def inverse_transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return approximate unit embeddings, (n, D) float32, of vectors, (n, d) float32.

        The decoder returns a direction from the mean; the embedding is where that ray meets the unit sphere. It is
        computed in float64: the last bit of a matrix product in float32 depends on the processor and the number of
        rows, which would change about one in some thousand float16 values. Raises UsageError without a decoder.
        """
        if self.decoder is None:
            raise UsageError("head: it has no decoder; train one with this version of train-head")
        check_array(vectors, "vectors", dtype=np.float32, shape=(None, self.d))
        if self._wide_decoder is None:
            self._wide_decoder = self.decoder.wide()
        mean = self.mean.astype(np.float64)
        rest = max(1 - float(mean @ mean), 0.0)
        out = np.empty((len(vectors), self.D), np.float32)
        for start in range(0, len(vectors), _BLOCK_ROWS):
            directions = self._wide_decoder(vectors[start : start + _BLOCK_ROWS].astype(np.float64))
            ahead = directions @ mean
            lengths = np.sqrt(ahead * ahead + rest) - ahead
            out[start : start + _BLOCK_ROWS] = unit(mean + lengths[:, None] * directions)
        return out

    @property
    def decodes(self) -> bool:
        """Whether it has a decoder, see `inverse_transform`."""
        return self.decoder is not None

    @property
    def learned_texts(self) -> tuple[str, ...]:
        """Texts whose ranking of the images it was trained to keep."""
        return tuple(self.config.get("names", ()))

    @property
    def has_text_tower(self) -> bool:
        """Whether it has a text tower."""
        return self.texts is not None

    @property
    def D(self) -> int:
        """Embedding dims."""
        return self.images.D

    @property
    def d(self) -> int:
        """Code dims."""
        return self.images.d

    def to_bytes(self) -> bytes:
        """Return the towers and the configuration as safetensors."""
        kind = self.texts.kind if self.texts else ""
        about = {"d": self.d, "decodes": self.decodes, "text_tower": kind, "embedder": self.embedder}
        # As a tensor, because the order of several entries in safetensors' metadata differs from run to run.
        config = np.frombuffer(json.dumps({**about, "training": self.config}).encode(), np.uint8)
        content: bytes = save({**self._tensors(), "config": config}, {"kind": self.kind})
        return content

    @classmethod
    def from_tensors(cls, named: dict[str, NDArray[Any]]) -> TrainedHead:
        """Return the head of what `to_bytes` wrote. Raises ArrayError, KeyError or ValueError if it is damaged."""
        about = parse_json(named["config"].tobytes())
        if not (isinstance(about, dict) and all(name in about and fits(about[name]) for name, fits in _ABOUT.items())):
            raise ArrayError(f"config: expected an object with {', '.join(_ABOUT)}, got {about!s:.80}")
        mean = check_array(named["mean"], "mean", dtype=np.float32, shape=(None,), finite=True)
        D, d = len(mean), about["d"]
        images = Tower.from_tensors(_under("images.", named), D, d)
        texts = None
        if about["text_tower"]:
            texts = _TEXT_TOWERS[about["text_tower"]](_under("texts.", named), D, d)
        return cls(
            images,
            mean,
            texts=texts,
            text_mean=named.get("text_mean"),
            decoder=Tower.from_tensors(_under("decoder.", named), d, D) if about.get("decodes") else None,
            config=about["training"],
            embedder=about["embedder"],
        )

    def _tensors(self) -> dict[str, NDArray[Any]]:
        named: dict[str, NDArray[Any]] = {"mean": self.mean}
        named |= {f"images.{name}": array for name, array in self.images.tensors().items()}
        if self.texts is not None and self.text_mean is not None:
            named["text_mean"] = self.text_mean
            named |= {f"texts.{name}": array for name, array in self.texts.tensors().items()}
        if self.decoder is not None:
            named |= {f"decoder.{name}": array for name, array in self.decoder.tensors().items()}
        return {name: np.ascontiguousarray(array) for name, array in named.items()}


def _under(prefix: str, named: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in named.items() if name.startswith(prefix)}
