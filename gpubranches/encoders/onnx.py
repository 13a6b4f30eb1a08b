"""Models as ONNX graphs: a folder with a graph for pictures, an optional graph for texts, and their description.

The description is encoder.json; docs/encoders.md lists its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.model_files import files_digest, loading, read_json, require_whole
from gpubranches.errors import DataError, UsageError, missing_package

if TYPE_CHECKING:
    from PIL.Image import Image

CONFIG = "encoder.json"
_FILES = (CONFIG, "**/*.onnx", "**/*.onnx_data", "**/*.onnx.data", "**/*.data", "**/*.json")
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
          "tensor(int32)": np.int32}  # fmt: skip
_TOKENS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class PictureInput:
    """The preprocessing of a picture for a graph: RGB, resized, normalised, channels first.

    height, width: of the input, pixels; resize: "shortest" (resize the shorter side, then crop the centre) or "squash"
    (resize both sides); interpolation: "bicubic" or "bilinear"; mean, std: (3,) float32, for values from 0 to 1.
    """

    height: int
    width: int
    resize: str
    interpolation: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def pixels(self, image: Image) -> NDArray[np.uint8]:
        """Return a picture, (height, width, 3) uint8."""
        from PIL import Image as pictures

        resample = pictures.Resampling.BICUBIC if self.interpolation == "bicubic" else pictures.Resampling.BILINEAR
        size = (self.width, self.height)
        if self.resize == "squash":
            return np.asarray(image.resize(size, resample), np.uint8)
        if self.width * image.height >= self.height * image.width:
            whole = (self.width, self.width * image.height // image.width)
        else:
            whole = (self.height * image.width // image.height, self.height)
        left, top = round((whole[0] - self.width) / 2), round((whole[1] - self.height) / 2)
        middle = image.resize(whole, resample).crop((left, top, left + self.width, top + self.height))
        return np.asarray(middle, np.uint8)

    def batch(self, pixels: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return pictures as one input, (m, 3, height, width) float32."""
        scaled = np.stack(pixels).astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(((scaled - self.mean) / self.std).transpose(0, 3, 1, 2))


class Graph:
    """An ONNX graph. session: of onnxruntime; output: name of the embedding, or "" for the only output of 2 dims."""

    def __init__(self, session: Any, place: Path, output: str):
        self.inputs = {each.name: each for each in session.get_inputs()}
        outputs = {each.name: each for each in session.get_outputs()}
        flat = [name for name, each in outputs.items() if len(each.shape) == 2]
        if output not in outputs and (output or len(flat) != 1):
            raise DataError(f"{place}: expected `output` to be one of {', '.join(outputs)}, got {output!r}")
        self._session = session
        self._output = output or flat[0]
        firsts = [each.shape[0] for each in self.inputs.values() if each.shape]
        self._at_once = next((size for size in firsts if isinstance(size, int) and size > 0), None)

    def rows(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Convert inputs to the types of the graph, and return their embeddings, (m, dim) float32.

        A graph of a fixed number of rows runs several times; the last rows are repeated to fill it.
        """
        typed = {name: value.astype(_TYPES[self.inputs[name].type]) for name, value in inputs.items()}
        count = len(next(iter(typed.values())))
        step = self._at_once or max(1, count)
        filled = {
            name: value[np.minimum(np.arange(-(-count // step) * step), count - 1)] for name, value in typed.items()
        }
        parts = [
            self._session.run([self._output], {name: value[at : at + step] for name, value in filled.items()})[0]
            for at in range(0, count, step)
        ]
        rows: NDArray[np.float32] = np.concatenate(parts)[:count].astype(np.float32)
        return rows


class OnnxEncoder:
    """An encoder with a graph for pictures, and optionally one for texts.

    spec: the folder. identity: the digest of its graphs, their data and its JSON files.
    """

    def __init__(self, folder: Path, picture: PictureInput, images: Graph, texts: OnnxTexts | None):
        self.spec = str(folder)
        self.name = folder.name
        self.identity = files_digest(folder, _FILES)
        self._picture, self._images = picture, images
        (self._input,) = images.inputs
        grey = np.full((picture.height, picture.width, 3), 128, np.uint8)
        self.dim = self.images([grey]).shape[1]
        self.texts = None if texts is None else texts.rows

    def preprocess(self, image: Image) -> NDArray[np.uint8]:
        """Return the pixels of a picture, (height, width, 3) uint8."""
        return self._picture.pixels(image)

    def images(self, batch: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return embeddings, (m, dim) float32."""
        return self._images.rows({self._input: self._picture.batch(batch)})


class OnnxTexts:
    """A graph for texts, with its tokenizer of the package tokenizers."""

    def __init__(self, graph: Graph, tokenizer: Any):
        self._graph, self._tokenizer = graph, tokenizer

    def rows(self, texts: list[str]) -> NDArray[np.float32]:
        """Return embeddings, (q, dim) float32."""
        tokens = self._tokenizer.encode_batch(texts)
        arrays = {
            "input_ids": [each.ids for each in tokens],
            "attention_mask": [each.attention_mask for each in tokens],
            "token_type_ids": [each.type_ids for each in tokens],
        }
        return self._graph.rows({name: np.array(arrays[name], np.int64) for name in self._graph.inputs})


def open_model(name: str, *, device: str = "auto") -> OnnxEncoder:
    """Open the model of a folder with encoder.json; onnxruntime's CUDA provider is used if it is installed.

    Raises DataError for files that are missing, damaged or different from encoder.json, BackendUnavailableError without
    the [onnx] extra.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_package("the model", "onnxruntime", "onnx", error=error) from error
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise UsageError(f"embedder: expected onnx:FOLDER with a folder that exists, got {name!r}")
    config = _Config(folder / CONFIG)
    require_whole(folder, _FILES)
    image = config.part("image", ("graph", "output", "size", "resize", "interpolation", "mean", "std"))
    text = config.part("text", ("graph", "output", "tokenizer", "length", "pad")) if "text" in config.data else None
    providers = _providers(onnxruntime, device)
    with loading(f"onnx:{name}", "check the files of the folder"):
        graph = _graph(onnxruntime, config, image, providers)
        if len(graph.inputs) != 1:
            raise DataError(f"{config.place}: expected a graph of pictures with one input, got {list(graph.inputs)}")
        texts = None if text is None else _texts(_graph(onnxruntime, config, text, providers), config, text)
        return OnnxEncoder(folder, _picture(config, image), graph, texts)


class _Config:
    """The contents of encoder.json, read with checks. place: the file; data: its object."""

    def __init__(self, place: Path):
        self.place = place
        self.data = read_json(place)
        if "image" not in self.data or not self.data.keys() <= {"image", "text"}:
            raise DataError(f"{place}: expected the keys image and, for a model of texts, text; got {list(self.data)}")

    def part(self, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
        part = self.data[name]
        if not isinstance(part, dict) or not part.keys() <= set(keys):
            got = sorted(part.keys() - set(keys)) if isinstance(part, dict) else type(part).__name__
            raise DataError(f"{self.place}: expected {name} to have the keys {', '.join(keys)}, got {got}")
        return part

    def file(self, part: dict[str, Any], key: str) -> Path:
        """Return the file of the folder that a key names."""
        value = part.get(key)
        place = (self.place.parent / value).resolve() if isinstance(value, str) else None
        if place is None or not place.is_relative_to(self.place.parent) or not place.is_file():
            raise DataError(f"{self.place}: expected {key} to be a file in the folder, got {value!r}")
        return place

    def choice(self, part: dict[str, Any], key: str, choices: tuple[str, ...]) -> str:
        value = part.get(key, choices[0])
        if value not in choices:
            raise DataError(f"{self.place}: expected {key} to be one of {', '.join(choices)}, got {value!r}")
        return str(value)

    def whole(self, part: dict[str, Any], key: str, least: int) -> int:
        value = part.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise DataError(f"{self.place}: expected {key} to be a whole number from {least} on, got {value!r}")
        return value

    def three(self, part: dict[str, Any], key: str) -> NDArray[np.float32]:
        value = part.get(key)
        if not isinstance(value, list) or len(value) != 3 or not all(type(each) in (int, float) for each in value):
            raise DataError(f"{self.place}: expected {key} to be three numbers, for red, green and blue, got {value!r}")
        return np.array(value, np.float32)


def _picture(config: _Config, image: dict[str, Any]) -> PictureInput:
    size = image.get("size")
    if isinstance(size, list) and len(size) == 2:
        height, width = (config.whole({"size": each}, "size", 1) for each in size)
    else:
        height = width = config.whole(image, "size", 1)
    std = config.three(image, "std")
    if (std <= 0).any():
        raise DataError(f"{config.place}: expected std to be above 0, got {std.tolist()}")
    return PictureInput(
        height,
        width,
        config.choice(image, "resize", ("shortest", "squash")),
        config.choice(image, "interpolation", ("bicubic", "bilinear")),
        config.three(image, "mean"),
        std,
    )


def _texts(graph: Graph, config: _Config, text: dict[str, Any]) -> OnnxTexts:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise missing_package("a model of texts", "tokenizers", "onnx", error=error) from error
    if unknown := set(graph.inputs) - set(_TOKENS):
        raise DataError(f"{config.place}: expected a graph of texts with inputs of {_TOKENS}, got {sorted(unknown)}")
    tokenizer = Tokenizer.from_file(str(config.file(text, "tokenizer")))
    length = config.whole(text, "length", 1)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=config.whole(text, "pad", 0))
    return OnnxTexts(graph, tokenizer)


def _graph(onnxruntime: Any, config: _Config, part: dict[str, Any], providers: list[str]) -> Graph:
    place = config.file(part, "graph")
    session = onnxruntime.InferenceSession(str(place), providers=providers)
    return Graph(session, config.place, part.get("output", ""))


def _providers(onnxruntime: Any, device: str) -> list[str]:
    cuda = "CUDAExecutionProvider"
    usable = cuda in onnxruntime.get_available_providers()
    if device.startswith("cuda") and not usable:
        raise UsageError("device: expected cpu or auto, for the installed onnxruntime has no CUDA; got cuda")
    return [cuda, "CPUExecutionProvider"] if usable and device != "cpu" else ["CPUExecutionProvider"]
