"""Readers of the files of a catalog: manifest, constants, heads, listings, metadata. Checksums always match."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz import mutations
from benchmarks.fuzz.files import use_metadata
from benchmarks.fuzz.reader import BrokenGuaranteeError, reader
from benchmarks.fuzz.tables import mutated_table
from benchmarks.fuzz.world import DIMS, World
from gpubranches import Catalog, Session, open_backend
from gpubranches.catalog import problems_at, repair
from gpubranches.encoders.heads import IdentityHead, PCAHead, RCAHead, TrainedHead, load_head
from gpubranches.encoders.heads.towers import TextMemory, Tower
from gpubranches.engines.kdtree.build import build_index
from gpubranches.engines.kdtree.files import KdIndex
from gpubranches.errors import GpuBranchesError
from gpubranches.ingestion import append
from gpubranches.ingestion.records import IngestHistory

_CONSTANTS = "constants.safetensors"
_SEAL = b',\n "sha256": "'


def use(path: Path) -> None:
    """Open a catalog and read everything from it."""
    catalog = Catalog.open(path)
    catalog.errors()
    ids = catalog.sample_ids(20, np.random.default_rng(0))
    catalog.items(ids)
    catalog.codes(ids)
    with open_backend("oracle", catalog) as backend:
        session = Session(catalog, backend)
        for item in ids[:1].tolist():
            session.search(item, 5)
        session.search(np.ones(catalog.D or catalog.d, np.float32 if catalog.D else np.uint8), 5)
    IngestHistory(catalog)


def _check(path: Path) -> None:
    for problem in problems_at(path):
        if not problem or "\n" in problem:
            raise BrokenGuaranteeError(f"verify reports a problem in several lines: {problem!r}")


def use_all(path: Path, data: bytes) -> None:
    """Use a catalog, check it, and repair it for some inputs (repair is slow); raise the first error."""
    errors = []
    for ask in (use, _check, *([repair] if zlib.crc32(data) % 4 == 0 else [])):
        try:
            ask(path)
        except GpuBranchesError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _sealed(data: bytes) -> bytes:
    """Return the text of a manifest with the right checksum."""
    body = data.rpartition(_SEAL)[0] or data.rstrip().removesuffix(b"}").rstrip()
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def mutated_manifest(data: bytes, rng: mutations.Random) -> bytes:
    """Return a manifest with one or two parts changed and the right checksum, or with changed bytes."""
    if rng.random() < 0.2:
        return mutations.mutated_bytes(data, rng)
    try:
        value = json.loads(data)
        value.pop("sha256", None)
    except (ValueError, AttributeError, RecursionError):
        return mutations.mutated_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2))):
        value = mutations.mutated_value(value, rng)
    return _sealed(mutations.dumped(value, rng))


@reader("manifest", lambda world: [(world.catalog / "manifest.json").read_bytes()], mutated_manifest, few=7)
def read_manifest(world: World, data: bytes) -> None:
    """Use, check and repair a catalog with another manifest, which may name folders of pictures."""
    path = world.copied()
    (path / "manifest.json").write_bytes(data)
    use_all(path, data)


def heads() -> list[bytes]:
    """Return a file of each kind of head."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, DIMS)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape).astype(np.float32)

    tower = Tower(normal(8, DIMS), ((normal(12, DIMS), normal(12)), (normal(8, 12), normal(8))))
    decoder = Tower(None, ((normal(DIMS, 8), normal(DIMS)),))
    memory = TextMemory(rows[:20].astype(np.float16), normal(20, 8), normal(8, DIMS), 0.1, 0.5)
    options: dict[str, Any] = {
        "text_mean": normal(DIMS),
        "decoder": decoder,
        "config": {"names": ["dog"], "seed": 0},
        "embedder": "x",
    }
    return [
        RCAHead(8).fit(rows).to_bytes(),
        PCAHead(8).fit(rows).to_bytes(),
        IdentityHead().fit(rows).to_bytes(),
        TrainedHead(tower, normal(DIMS), texts=memory, **options).to_bytes(),
        TrainedHead(tower, normal(DIMS), texts=tower, text_mean=normal(DIMS)).to_bytes(),
    ]


@reader("head", lambda world: heads(), mutations.mutated_safetensors, few=50)
def read_head(world: World, data: bytes) -> None:
    """Load a head; map embeddings, texts and back."""
    path = world.scratch / "head.safetensors"
    path.write_bytes(data)
    head = load_head(path)
    if head.D > 10_000:
        raise BrokenGuaranteeError("a head with impossible dims was read")
    rows = np.ones((3, head.D), np.float32)
    vectors = head.transform(rows)
    if vectors.shape != (3, head.d):
        raise BrokenGuaranteeError(f"expected vectors of {head.d} dims, got {vectors.shape}")
    if head.has_text_tower:
        head.transform_texts(rows)
    if head.decodes:
        head.inverse_transform(vectors)
    str(head.identity), head.learned_texts, load_head(_written(path, head.to_bytes()))


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@reader(
    "constants",
    lambda world: [(world.catalog / "constants.safetensors").read_bytes()],
    mutations.mutated_safetensors,
    few=7,
)
def read_constants(world: World, data: bytes) -> None:
    """Use, check and repair a catalog with other constants."""
    with world.changed(_CONSTANTS, data) as path:
        use_all(path, data)


@reader("listing", lambda world: [_listing(world).read_bytes()], mutated_table, few=4)
def read_listing(world: World, data: bytes) -> None:
    """Use, check and repair a catalog with another listing of inputs, and append to it."""
    with world.changed(_listing(world).name, data) as path:
        try:
            append(path, [world.folder / "in"], new=True)
        finally:
            use_all(path, data)


def _listing(world: World) -> Path:
    return sorted(world.catalog.glob("inputs-*.parquet"))[0]


def _stored(world: World, name: str) -> Path:
    return sorted(world.catalog.glob(f"segments/*/{name}"))[0].relative_to(world.catalog)


def _content(name: str) -> Callable[[World], list[bytes]]:
    return lambda world: [(world.catalog / _stored(world, name)).read_bytes()]


@reader("items", _content("items.parquet"), mutated_table, few=4)
def read_items(world: World, data: bytes) -> None:
    """Use, check and repair a catalog with other stored metadata."""
    with world.changed(_stored(world, "items.parquet").as_posix(), data) as path:
        try:
            use_metadata(Catalog.open(path), world.scratch)
        finally:
            use_all(path, data)


@reader("errors", _content("errors.parquet"), mutated_table, few=4)
def read_errors(world: World, data: bytes) -> None:
    """Use, check and repair a catalog with another list of unreadable inputs."""
    with world.changed(_stored(world, "errors.parquet").as_posix(), data) as path:
        use_all(path, data)


def _index(world: World) -> list[bytes]:
    indexed = world.folder / "indexed"
    if not indexed.exists():
        shutil.copytree(world.catalog, indexed)
        build_index(Catalog.open(indexed))
    return [(indexed / "kdtree/manifest.json").read_bytes()]


@reader("index", _index, mutations.mutated_json, few=6)
def read_index(world: World, data: bytes) -> None:
    """Open and check an index with another manifest."""
    path = Path(shutil.copytree(world.folder / "indexed", world.scratch / "catalog"))
    (path / "kdtree/manifest.json").write_bytes(data)
    _check(path)
    index = KdIndex.open(path / "kdtree", Catalog.open(path), "build it again")
    if len(index.trees) != len(index.sizes) or index.subsets.max(initial=0) >= len(index.members):
        raise BrokenGuaranteeError("the tables of an index do not fit its trees")
