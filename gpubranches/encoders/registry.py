"""The kinds of models that a spec can name: built-in ones, and those of other packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from gpubranches.encoders.joint import JointEmbedder, require_two, split
from gpubranches.encoders.model_embedder import ModelEmbedder
from gpubranches.encoders.protocol import Embedder, Encoder
from gpubranches.encoders.vocabulary import VocabularyEmbedder
from gpubranches.errors import DataError, GpuBranchesError, UsageError

GROUP = "gpubranches.encoders"
"""The group of entry points with which packages add kinds; each is a function (name, device) -> Encoder."""


def open_embedder(spec: str | Sequence[str], *, device: str = "auto", identity: str = "") -> Embedder:
    """Open an embedder by its spec, KIND:NAME, or a `JointEmbedder` by two specs.

    spec: two specs are a sequence, or the JSON list that a catalog stores. docs/encoders.md lists the kinds and their
    names; packages add kinds with entry points in the group `gpubranches.encoders`. device: "auto", "cpu" or "cuda".
    identity: the identity of a catalog's embedder; pass it with the catalog's own spec. If an earlier version built
    that model differently, it is built in the same way again.
    Raises UsageError for another spec, BackendUnavailableError without the packages it needs, DataError for a model
    that cannot be loaded.
    """
    specs = split(spec) if isinstance(spec, str) else list(spec)
    if len(specs) == 1:
        return _open_one(specs[0], device, identity)
    require_two(specs)
    known = split(identity) if identity else ["", ""]
    return JointEmbedder([_open_one(each, device, own) for each, own in zip(specs, known, strict=False)])


def _open_one(spec: str, device: str, identity: str) -> Embedder:
    kind, _, name = spec.partition(":")
    if kind in OWN:
        return OWN[kind](name, device, identity)
    brought = _brought()
    if kind in brought and name:
        return _open_brought(brought[kind], spec, device)
    known = ", ".join([*FORMS, *(f"{other}:NAME" for other in sorted(brought))])
    raise UsageError(f"embedder: expected one of {known}; got {spec!r}")


class _Named(Encoder, Protocol):
    """An encoder with the attribute `spec`: the part of its spec after the colon, with absolute paths."""

    @property
    def spec(self) -> str: ...


def _of_library(kind: str, name: str, device: str, identity: str) -> Embedder:
    if not name:
        raise _unlike(f"{kind}:", kind)
    encoder: _Named
    if kind == "open_clip":
        from gpubranches.encoders import open_clip

        encoder = open_clip.open_model(name, device=device, identity=identity)
    elif kind == "transformers":
        from gpubranches.encoders import transformers

        encoder = transformers.open_model(name, device=device)
    elif kind == "sentence-transformers":
        from gpubranches.encoders import sentence_transformers

        encoder = sentence_transformers.open_model(name, device=device)
    else:
        from gpubranches.encoders import onnx

        encoder = onnx.open_model(name, device=device)
    return ModelEmbedder(encoder, f"{kind}:{encoder.spec}", kind)


def _vocabulary(name: str, device: str, identity: str) -> Embedder:
    if name.count(",") != 1:
        raise _unlike(f"vocabulary:{name}", "vocabulary")
    return VocabularyEmbedder.load(*name.split(","))


def _demo(name: str, device: str, identity: str) -> Embedder:
    if name:
        raise _unlike(f"demo:{name}", "demo")
    from gpubranches.encoders.demo import DemoEmbedder

    return DemoEmbedder(device)


OWN: dict[str, Callable[[str, str, str], Embedder]] = {
    "open_clip": partial(_of_library, "open_clip"),
    "transformers": partial(_of_library, "transformers"),
    "sentence-transformers": partial(_of_library, "sentence-transformers"),
    "onnx": partial(_of_library, "onnx"),
    "vocabulary": _vocabulary,
    "demo": _demo,
}
FORMS = (
    "open_clip:MODEL/TAG",
    "open_clip:MODEL/TAG,FILE",
    "open_clip:MODEL,FILE",
    "open_clip:FOLDER",
    "open_clip:hf-hub:ORG/NAME",
    "transformers:FOLDER",
    "transformers:ORG/NAME",
    "sentence-transformers:FOLDER",
    "sentence-transformers:ORG/NAME",
    "onnx:FOLDER",
    "vocabulary:TEXT_EMB.npy,NAMES.json",
    "demo",
)
"""The specs of the built-in kinds."""


def _unlike(spec: str, kind: str) -> UsageError:
    forms = ", ".join(form for form in FORMS if form.partition(":")[0] == kind)
    return UsageError(f"embedder: expected {forms}, got {spec!r}")


def _brought() -> dict[str, EntryPoint]:
    """Return the kinds of other packages, by name. Raises UsageError if two packages have the same kind."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UsageError(
                f"embedder: expected one package that provides {point.name}:, got {other.value} and {point.value}; "
                "uninstall one of them"
            )
    return found


def _open_brought(point: EntryPoint, spec: str, device: str) -> Embedder:
    kind, _, name = spec.partition(":")
    try:
        encoder: Encoder = point.load()(name, device)
    except GpuBranchesError:
        raise
    except Exception as error:
        raise DataError(
            f"{spec}: {point.value} cannot open the model: {type(error).__name__}: {error}; ask the makers of the "
            "package that brings it"
        ) from error
    return ModelEmbedder(encoder, spec, kind)
