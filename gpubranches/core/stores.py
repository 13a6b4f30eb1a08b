"""Files in stores, by addresses such as s3://bucket/photos: listed and read through fsspec, never written.

No other module opens an address, and callers pass only addresses that the user has named.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import unquote, urlsplit

from gpubranches.core.byte_ranges import ByteRange
from gpubranches.errors import (
    BackendUnavailableError,
    DataError,
    GpuBranchesError,
    StoreError,
    UsageError,
    first_line,
    missing_package,
)

PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "hf": "huggingface_hub",
    "https": "aiohttp",
    "http": "aiohttp",
    "memory": "fsspec",
}
"""The package that reads the addresses of each scheme."""
AT_ONCE = 32
"""Requests to a store at a time: most of a request is waiting."""
_BLOCK_BYTES = 4 << 20
"""Bytes that are read ahead of a sequential reader."""
_IN_MEMORY_BYTES = 8 << 20
"""Larger files are copied to the disk to be read as a whole."""
_WAITS_S = (0.5, 2.0)
"""Pauses before a request is repeated."""
SILENT_S = 30.0
"""Seconds after which a request to a web server that sends nothing has failed."""
_TAGS = ("ETag", "etag", "md5Hash", "Content-MD5", "blob_id", "Digest")
_TIMES = ("LastModified", "last_modified", "updated", "Last-Modified", "mtime", "created")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
Result = TypeVar("Result")
Given = TypeVar("Given")


@dataclass(frozen=True)
class StoredFile:
    """A file in a store. size: bytes; mtime_ns, tag: its time, and a number made of its ETag, 0 where unknown."""

    url: str
    size: int
    mtime_ns: int
    tag: int


def is_url(place: object) -> bool:
    """Return whether a text is an address with a scheme, such as s3://bucket/photos, and no path."""
    return isinstance(place, str) and _SCHEME.match(place) is not None


def without_file_scheme(place: str | Path) -> str | Path:
    """Return the path of an address such as file:///data/photos; all else stays. Raises UsageError for another host."""
    if not (isinstance(place, str) and place.startswith("file://")):
        return place
    parts = urlsplit(place)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{place}: expected a path after file://, such as file:///data/photos")
    return unquote(parts.path)


def checked_url(url: str) -> str:
    """Return an address without slashes at its end.

    Raises UsageError for an unknown scheme, for an address without a bucket or host, and for one with a password or, on
    the web, a query, which the catalog would record.
    """
    scheme, rest = url.split("://", 1)
    if scheme not in PACKAGES:
        known = ", ".join(f"{name}://" for name in ("file", *PACKAGES))
        raise UsageError(f"{scheme}://: expected a path, or an address that begins with {known}")
    if not rest.strip("/"):
        raise UsageError(f"{url}: expected an address such as {scheme}://bucket/photos")
    first, is_web = rest.partition("/")[0], scheme.startswith("http")
    has_password = ":" in first and not is_web and not first.startswith("arn:")  # it may hold slashes
    if ("@" in first and scheme != "az") or has_password:
        raise UsageError(
            f"{scheme}://: expected an address without a name or password, which the catalog would record; give them "
            f"as {PACKAGES[scheme]} reads them, such as by environment variables"
        )
    if is_web and ("?" in rest or "#" in rest):
        raise UsageError(
            f"{re.split('[?#]', url)[0]}: expected an address without ? and #, because the catalog would record a "
            "signature after them; write %3F and %23 if they belong to a name"
        )
    return url.rstrip("/")


def name_of(url: str) -> str:
    """Return the last part of an address."""
    return url.rstrip("/").rpartition("/")[2]


def folder_of(url: str) -> str:
    """Return the address of the folder of a file."""
    return url.rpartition("/")[0]


def joined(folder: str, name: str) -> str | None:
    """Return the address of a file in a folder, or None if its name leads out of the folder."""
    parts = re.split(r"[/\\]", unquote(name))
    return None if not name or {"..", "."} & set(parts) or is_url(name) else f"{folder.rstrip('/')}/{name}"


def is_within(url: str, folder: str) -> bool:
    """Return whether an address is a folder or inside it; False for an address with the parts . or .."""
    inside = url.removeprefix(f"{folder.rstrip('/')}/")
    return url == folder or (inside != url and joined(folder, inside) is not None)


def listed(url: str) -> dict[str, StoredFile]:
    """Return the files below an address at any depth, by their names in it, ascending.

    Hidden files, marks of folders, and links with ? or # on pages of the web are left out.
    Raises StoreError if the store does not answer.
    """
    filesystem = _filesystem(url)
    root = filesystem._strip_protocol(url).rstrip("/")
    told = {"on_error": _unless_absent} if url.startswith("http") else {}  # it would leave out folders that fail
    try:
        found = _asked(url, lambda: filesystem.find(url, detail=True, **told))
    except DataError:
        return {}
    infos = {path[len(root) + 1 :]: info for path, info in found.items() if path.startswith(f"{root}/")}
    hidden = r"(^|/)\.|/$" + ("|[?#]" if url.startswith("http") else "")  # / is a mark of a folder, ? sorts its page
    names = [name for name in sorted(infos) if joined(url, name) and not re.search(hidden, name)]
    untold = [f"{url}/{name}" for name in names if not isinstance(infos[name].get("size"), int)]
    asked = {file.url: file for file in at_once(stat, untold)}
    return {name: asked.get(place := f"{url}/{name}") or _file(place, infos[name]) for name in names}


def stat(url: str) -> StoredFile:
    """Return a file of a store. Raises DataError if there is none, StoreError if the store does not answer."""
    info = _asked(url, lambda: _filesystem(url).info(url))
    if info.get("type") == "directory":
        raise DataError(f"{url}: expected a file, got a folder")
    if not isinstance(info.get("size"), int):
        raise DataError(f"{url}: the server does not give the size of the file; download the file")
    return _file(url, info)


def exists(url: str) -> bool:
    """Return whether there is a file at an address. Raises StoreError if the store does not answer."""
    try:
        stat(url)
    except DataError:
        return False
    return True


def read(url: str, start: int, size: int) -> bytes:
    """Return bytes start..start+size-1 of a file, fewer at its end. Raises DataError and StoreError like `stat`."""
    if size <= 0:
        return b""
    data: bytes = _asked(url, lambda: _filesystem(url).cat_file(url, start=start, end=start + size))
    if len(data) > size:
        raise StoreError(f"{url}: expected a server that can send parts of a file, but it sent more; download the file")
    return data


def open_range(url: str, start: int, size: int) -> IO[bytes]:
    """Open a range of a file for reading in sequence; blocks are read ahead. Errors are raised by reading."""
    return io.BufferedReader(_range(url, start, size), max(1, min(size, _BLOCK_BYTES)))


def open_file(url: str) -> IO[bytes]:
    """Open a file for reading in any order, without reading ahead. Raises DataError and StoreError like `stat`."""
    return _range(url, 0, stat(url).size)  # type: ignore[return-value]


def copy(file: StoredFile) -> IO[bytes]:
    """Return a copy of a file, at its beginning: in memory, or on the disk if it is large.

    Raises DataError if the file has changed since, StoreError if the store does not answer.
    """
    in_memory = file.size <= _IN_MEMORY_BYTES
    out: IO[bytes] = io.BytesIO() if in_memory else tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    _copy(file, out)
    out.seek(0)
    return out


@contextmanager
def on_disk(url: str) -> Iterator[Path]:
    """Yield the path of a copy of a file, in the folder for temporary files, until the block ends.

    A memory map of it may be used longer. Errors of `copy`; those of the block name the address.
    """
    with tempfile.TemporaryDirectory(prefix="gpubranches-") as folder:
        path = Path(folder, f"copy{Path(name_of(url)).suffix}")  # a key may be longer than the name of a file
        with path.open("wb") as out:
            _copy(stat(url), out)
        try:
            yield path
        except DataError as error:
            raise type(error)(str(error).replace(str(path), url)) from error


def at_once(function: Callable[[Given], Result], given: Iterable[Given]) -> list[Result]:
    """Return the results of a function that waits for a store, in order; `AT_ONCE` calls run at a time."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(function, given))


def _range(url: str, start: int, size: int) -> ByteRange:
    return ByteRange(lambda at, wanted: read(url, start + at, wanted), size)


def _copy(file: StoredFile, out: IO[bytes]) -> None:
    copied = 0
    try:
        while copied < file.size and (data := read(file.url, copied, _IN_MEMORY_BYTES)):
            copied += out.write(data)
    except OSError as error:
        raise DataError(f"{file.url}: cannot copy to {tempfile.gettempdir()}: {error.strerror}") from error
    if copied != file.size:
        raise DataError(f"{file.url}: expected {file.size:,} bytes, got {copied:,}; the file has changed")


def _file(url: str, info: Mapping[str, Any]) -> StoredFile:
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), "")
    number = int.from_bytes(hashlib.sha256(tag.encode()).digest()[:8]) >> 1 if tag else 0
    told = next((info[name] for name in _TIMES if info.get(name)), None)
    return StoredFile(url, int(info["size"]), _nanoseconds(told), number)


def _nanoseconds(told: object) -> int:
    """Return a time that a store gave, in nanoseconds since 1970; 0 for other values."""
    try:
        if isinstance(told, str):
            told = parsedate_to_datetime(told) if "," in told else datetime.fromisoformat(told)
        if isinstance(told, datetime):
            told = (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
        return int(float(told) * 1_000_000) * 1000 if isinstance(told, int | float) else 0
    except (ValueError, OverflowError):
        return 0


def _asked(url: str, call: Callable[[], Result]) -> Result:
    """Return the result of a request, which is repeated twice if it fails."""
    waits_s = list(_WAITS_S)
    while True:
        try:
            return call()
        except GpuBranchesError:
            raise
        except Exception as raised:  # every protocol's package raises its own kinds
            # The package for web servers raises FileNotFoundError for each failure, with the failure as its cause.
            error = raised.__cause__ or raised if url.startswith("http") else raised
            if isinstance(error, FileNotFoundError) or getattr(error, "status", None) in (404, 410):
                raise DataError(f"{url}: there is no such file in the store") from error
            if not waits_s or isinstance(error, PermissionError):
                raise StoreError(
                    f"{url}: the store does not answer, or refuses ({first_line(error)}); check the address, the "
                    "network and what identifies you there, then run the same command again"
                ) from error
            time.sleep(waits_s.pop(0))


def _limits(scheme: str) -> dict[str, Any]:
    """Return time limits for requests to web servers; the packages of other schemes have their own limits."""
    if not scheme.startswith("http"):
        return {}
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=SILENT_S, sock_read=SILENT_S)}}


def _unless_absent(error: Exception) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _filesystem(url: str) -> Any:
    return _filesystem_of(checked_url(url).partition("://")[0])


@functools.cache
def _filesystem_of(scheme: str) -> Any:
    """Return the one file system of a scheme, for all threads. Raises BackendUnavailableError without its package."""
    try:
        import fsspec
    except ImportError as error:
        raise missing_package(f"{scheme}://", "fsspec", "remote", error=error) from error
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False, **_limits(scheme))
    except ImportError as error:
        package = PACKAGES[scheme]
        raise BackendUnavailableError(f"{scheme}:// needs {package} ({error}); pip install {package}") from error
