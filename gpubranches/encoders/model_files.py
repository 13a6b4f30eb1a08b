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
_POINTER = b"version https://git-lfs.github.com/spec/"
_PATIENCE_S = 5.0
"""How long the Hub may take for the first answer."""
_loads = threading.RLock()
"""Held while a model is loaded, because `no_network` affects the whole process."""


def model_folder(kind: str, name: str, patterns: Sequence[str]) -> Path:
    """Return the folder of a model: `name` if it is a folder, else the snapshot of the Hub model ORG/NAME.

    name: ORG/NAME@REVISION selects a revision. patterns: the files to download; files in the Hub's cache are not
    downloaded again. Raises UsageError if `name` is neither a folder nor a Hub name, DataError if the download fails.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        require_whole(folder, patterns)
        return folder.resolve()
    repository, _, revision = name.partition("@")
    if not _HUB_NAME.fullmatch(repository):
        raise UsageError(
            f"embedder: expected {kind}:FOLDER with a folder that exists, or {kind}:ORG/NAME, got {name!r}"
        )
    from huggingface_hub import snapshot_download

    advice = "no folder has this name; check the name on the Hub, your access to it, the network and HF_HUB_OFFLINE"
    with loading(f"{kind}:{name}", advice), network(f"{kind}:{name}"):
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
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        first = lines[0] if lines else type(error).__name__
        reason = " ".join(lines[:2]) if first.endswith(":") else first
        raise DataError(f"{spec}: cannot load the model: {reason.rstrip('.:')}; {advice}") from error


@contextmanager
def network(spec: str) -> Iterator[None]:
    """Wait until no other thread is in `no_network`, and then allow downloads in this block.

    If the Hub does not answer one request, the block has the files of the cache alone: huggingface_hub would repeat
    each request for half a minute. Raises DataError naming `spec` for a file that is not in the cache then.
    """
    with _loads:
        if hub_answers():
            yield
            return
        try:
            with no_network():
                yield
        except Exception as error:
            if _is_not_cached(error):
                raise DataError(
                    f"{spec}: the model is not in the cache, and the Hub does not answer; check the network and "
                    "HF_HUB_OFFLINE, or name a folder that has the model"
                ) from error
            raise


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


def hub_answers() -> bool:
    """Return whether the Hub answers a request, through the proxy that the user has set, within a few seconds."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE_S)
    except Exception:  # of the library for HTTP, which differs among versions of huggingface_hub
        return False
    return True


def _is_not_cached(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, is that of a file that is not in the Hub's cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    while error is not None and not isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        error = error.__cause__ or error.__context__
    return error is not None


def require_whole(folder: Path, patterns: Iterable[str]) -> None:
    """Raise DataError for a file of a model that is only a pointer of Git LFS, as a clone without LFS has them."""
    for path in (path for pattern in patterns for path in folder.glob(pattern) if path.is_file()):
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise DataError(f"{path}: expected a file of the model, got a pointer of Git LFS; run `git lfs pull`")


def require_tokenizer(spec: str, folder: Path) -> None:
    """Raise DataError for a model of texts without a vocabulary; transformers would read all texts as unknown words."""
    if not any(path for pattern in ("tokenizer.json", "vocab*", "*.model") for path in folder.rglob(pattern)):
        raise DataError(f"{spec}: expected a tokenizer (tokenizer.json), found none in {folder}; get the whole model")


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
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected a file with a JSON object, found none; get the whole model") from error
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
