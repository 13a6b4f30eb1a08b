"""The files of a model: its folder or Hub snapshot, the digest of its files, and loading without the network."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpubranches.core.files import parse_json
from gpubranches.errors import DataError, GpuBranchesError, UsageError, missing_package

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_loads = threading.RLock()
"""Held while a model is loaded, because `no_network` affects the whole process."""


def model_folder(kind: str, name: str, patterns: Sequence[str]) -> Path:
    """Return the folder of a model: `name` if it is a folder, else the snapshot of the Hub model ORG/NAME.

    name: ORG/NAME@REVISION selects a revision. patterns: the files to download; files in the Hub's cache are not
    downloaded again. Raises UsageError if `name` is neither a folder nor a Hub name, DataError if the download fails.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    repository, _, revision = name.partition("@")
    if not _HUB_NAME.fullmatch(repository):
        raise UsageError(
            f"embedder: expected {kind}:FOLDER with a folder that exists, or {kind}:ORG/NAME, got {name!r}"
        )
    from huggingface_hub import snapshot_download

    advice = "no folder has this name; check the name on the Hub, your access to it, the network and HF_HUB_OFFLINE"
    with loading(f"{kind}:{name}", advice), network():
        # The user may fix a revision; a catalog refuses other files than those it was made with.
        snapshot = snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns))  # nosec B615
    return Path(snapshot)


@contextmanager
def loading(spec: str, advice: str) -> Iterator[None]:
    """Turn any error that a library raises while it loads a model into a DataError of one sentence, with advice."""
    try:
        yield
    except GpuBranchesError:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        first = lines[0].strip() if lines else type(error).__name__
        raise DataError(f"{spec}: cannot load the model: {first.rstrip('.')}; {advice}") from error


@contextmanager
def network() -> Iterator[None]:
    """Wait until no other thread is in `no_network`, and then allow downloads in this block."""
    with _loads:
        yield


@contextmanager
def no_network() -> Iterator[None]:
    """Keep huggingface_hub, and libraries that use it, off the network while local files are loaded."""
    from huggingface_hub import constants

    with _loads:
        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


def files_digest(folder: Path, patterns: Iterable[str]) -> str:
    """Return a digest, 16 hexadecimal digits, of the names and contents of the matching files of a folder."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    whole = hashlib.sha256()
    for path in sorted(found):
        whole.update(f"{path.relative_to(folder).as_posix()}\n{file_digest(path)}\n".encode())
    return whole.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits. Raises DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file. Raises DataError if the file contains none."""
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a JSON object: {error}") from error
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


def require_transformers(what: str) -> None:
    """Raise BackendUnavailableError unless transformers is installed, without importing it."""
    from importlib.util import find_spec

    if find_spec("transformers") is None:
        raise missing_package(what, "transformers", "transformers")
