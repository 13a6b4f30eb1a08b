"""The contents of the files of a catalog and of an export, without paths, times and random names."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

RUN = ("paths", "place", "mtime_ns", "ctime_ns", "listing")
"""Keys of paths and times in a catalog's record of its inputs."""


def catalog_files(catalog: Path, folder: Path) -> dict[str, Any]:
    """Return the manifest of a catalog and the bytes of each of its files. folder: the folder that contains all inputs.

    Segments are called by their numbers. Of the listing of inputs, the columns without places and times are compared.
    """
    manifest = json.loads((catalog / "manifest.json").read_text(encoding="utf-8"))
    manifest.pop("sha256", None)
    segments = manifest.pop("segments")
    listings = sorted(name for name in manifest["files"] if name.startswith("inputs-"))
    for name in listings:
        del manifest["files"][name]
    for record in manifest["source"].get("inputs", ()):
        for key in RUN:
            record.pop(key, None)
    files = {name: (catalog / name).read_bytes() for name in manifest["files"]}
    if manifest["deleted"]:
        files["deleted"] = (catalog / manifest["deleted"]["name"]).read_bytes()
    for number, segment in enumerate(segments):
        files |= {f"{number}/{name}": (catalog / segment["name"] / name).read_bytes() for name in segment["files"]}
    return {
        "manifest": without_folder(manifest, folder),
        "segments": [{key: segment[key] for key in segment if key != "name"} for segment in segments],
        "inputs": [_listing(catalog / name) for name in listings],
        "files": files,
    }


def _listing(path: Path) -> dict[str, Any]:
    table = pq.read_table(path)
    return {name: table[name].to_pylist() for name in table.column_names if name not in RUN}


def exported(path: Path, folder: Path) -> Any:
    """Return the content of an exported file. folder: the folder that contains all paths of this run.

    Files that may contain paths are compared by their values without the folder, and those of a tar without their
    times.
    """
    content = path.read_bytes()
    if path.name.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            members = [(one.name, one.type, one.mode, one.linkname) for one in tar.getmembers()]
        return without_folder(members, folder)
    if path.name.endswith(".parquet"):
        table = pq.read_table(path)
        return without_folder({"schema": str(table.schema), "rows": table.to_pylist()}, folder)
    return without_folder(content.decode("utf-8"), folder)


def without_folder(value: Any, folder: Path) -> Any:
    """Return a value with a folder's name replaced in all of its texts."""
    if isinstance(value, str):
        return value.replace(str(folder), "FOLDER")
    if isinstance(value, bytes):
        return value.replace(str(folder).encode(), b"FOLDER")
    if isinstance(value, dict):
        return {without_folder(key, folder): without_folder(held, folder) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folder(held, folder) for held in value]
    return value
