"""The kinds of models that a spec can name: those that ship here, and those that other packages bring."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from gpubranches.encoders.model_embedder import ModelEmbedder
from gpubranches.encoders.protocol import Embedder, Encoder
from gpubranches.encoders.vocabulary import VocabularyEmbedder
from gpubranches.errors import DataError, GpuBranchesError, UsageError

GROUP = "gpubranches.encoders"
"""The entry points by which packages bring kinds of models; each is a function (name, device) -> Encoder."""


def open_embedder(spec: str, *, device: str = "auto", identity: str = "") -> Embedder:
    """Open an embedder by its spec, KIND:NAME.

    The kinds and their names are in docs/encoders.md; packages add kinds by entry points of the group
    `gpubranches.encoders`. device: "auto", "cpu" or "cuda". identity: that of the embedder of a catalog, for its own
    spec; a model that was built otherwise when that catalog was made is then built as it was. Raises UsageError for
    another spec, BackendUnavailableError without the packages it needs, DataError for a model that cannot be loaded.
    """
    kind, _, name = spec.partition(":")
    if kind in OWN:
        return OWN[kind](name, device, identity)
    brought = _brought()
    if kind in brought and name:
        return _open_brought(brought[kind], spec, device)
    known = ", ".join([*FORMS, *(f"{other}:NAME" for other in sorted(brought))])
    raise UsageError(f"embedder: expected one of {known}; got {spec!r}")


def _open_clip(name: str, device: str, identity: str) -> Embedder:
    _require(name, "open_clip")
    from gpubranches.encoders.open_clip import open_model

    encoder = open_model(name, device=device, identity=identity)
    return ModelEmbedder(encoder, f"open_clip:{encoder.spec}", "open_clip")


def _transformers(name: str, device: str, identity: str) -> Embedder:
    _require(name, "transformers")
    from gpubranches.encoders.transformers import open_model

    encoder = open_model(name, device=device)
    return ModelEmbedder(encoder, f"transformers:{encoder.spec}", "transformers")


def _sentence_transformers(name: str, device: str, identity: str) -> Embedder:
    _require(name, "sentence-transformers")
    from gpubranches.encoders.sentence_transformers import open_model

    encoder = open_model(name, device=device)
    return ModelEmbedder(encoder, f"sentence-transformers:{encoder.spec}", "sentence-transformers")


def _onnx(name: str, device: str, identity: str) -> Embedder:
    _require(name, "onnx")
    from gpubranches.encoders.onnx import open_model

    encoder = open_model(name, device=device)
    return ModelEmbedder(encoder, f"onnx:{encoder.spec}", "onnx")


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
    "open_clip": _open_clip,
    "transformers": _transformers,
    "sentence-transformers": _sentence_transformers,
    "onnx": _onnx,
    "vocabulary": _vocabulary,
    "demo": _demo,
}
FORMS = (
    "open_clip:MODEL/PRETRAINED",
    "open_clip:MODEL/PRETRAINED,FILE",
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
"""The specs of the kinds that ship here."""


def _require(name: str, kind: str) -> None:
    if not name:
        raise _unlike(f"{kind}:", kind)


def _unlike(spec: str, kind: str) -> UsageError:
    forms = ", ".join(form for form in FORMS if form.partition(":")[0] == kind)
    return UsageError(f"embedder: expected {forms}, got {spec!r}")


def _brought() -> dict[str, EntryPoint]:
    """Return the kinds that packages bring, by name. Raises UsageError if two packages bring one."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UsageError(
                f"embedder: expected one package that brings {point.name}:, got {other.value} and {point.value}; "
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
