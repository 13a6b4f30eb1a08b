"""The scenarios that are disturbed: commands of the command line, and requests to a served catalog."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from benchmarks.crashes.world import SESSION, TRAINING, World, run
from gpubranches import Catalog, open_backend
from gpubranches.app import create_app
from gpubranches.errors import GpuBranchesError

API = f"/api/v1/sessions/{SESSION}"
_HEADERS = {"HX-Request": "true", "Accept": "application/json"}
_TRIES = 3


@dataclass(frozen=True)
class Hooks:
    """Callbacks of a scenario.

    ready: faults may begin; told: a request of that number was answered; freed: the disk has space again.
    """

    ready: Callable[[], None]
    told: Callable[[int], None]
    freed: Callable[[], None]


@dataclass(frozen=True)
class Command:
    """A command. start: the content of the working folder before; arguments: built from the inputs and that folder."""

    name: str
    start: str
    arguments: Callable[[Path, Path], Sequence[object]]
    notes: int = 0
    """Number of requests that are answered one by one; a command has none."""
    needs: str = ""
    """A part that is loaded or made once before all processes, "torch" or "head"; or a package, "av"."""

    def play(self, world: World, work: Path, done: int, hooks: Hooks) -> int:
        """Run the scenario; return the exit status."""
        hooks.ready()
        return run(*(os.fspath(each) for each in self.arguments(world.inputs, work)))  # type: ignore[call-overload]


@dataclass(frozen=True)
class Requests:
    """Requests to a served catalog. from_start: whether the start of the server is under the layer too."""

    name: str
    start: str
    requests: tuple[tuple[str, str, dict[str, Any]], ...]
    from_start: bool = False
    needs: str = ""

    @property
    def notes(self) -> int:
        """Number of requests."""
        return len(self.requests)

    def play(self, world: World, work: Path, done: int, hooks: Hooks) -> int:
        """Send all requests but the first `done`; repeat a failed one, at last with space on the disk.

        Returns 0 if all were answered, 1 if one was not, or was refused in an undocumented way.
        """
        if self.from_start:
            hooks.ready()
        try:
            with open_backend("oracle", catalog := Catalog.open(work / "c")) as backend:
                app = create_app(catalog, backend)
                try:
                    return self._ask(app, done, hooks)
                finally:
                    app.extensions["gpubranches"].service.close()
        except GpuBranchesError as error:  # as `serve` prints it
            print(f"Error: {error}")
            return error.exit_code

    def _ask(self, app: Flask, done: int, hooks: Hooks) -> int:
        if not self.from_start:
            hooks.ready()
        client, service = app.test_client(), app.extensions["gpubranches"].service
        for number, request in list(enumerate(self.requests))[done:]:
            if not _asked(client, request, hooks):
                return 1
            if service.sessions.keeps_marks:
                hooks.told(number)
        return 0


def _asked(client: Any, request: tuple[str, str, dict[str, Any]], hooks: Hooks) -> bool:
    """Send a request until it is answered; return whether it was, with only documented refusals before."""
    method, path, body = request
    for left in reversed(range(_TRIES)):
        answer = client.open(path, method=method, headers=_HEADERS, **_body(body))
        gone = method == "DELETE" or path.endswith("/delete")
        if answer.status_code < 400 or (answer.status_code in (404, 410) and gone):
            return True
        told = answer.get_json(silent=True) or {}
        message = str(told.get("detail") or told.get("error") or answer.text)
        print(f"{method} {path}: {answer.status_code} {message}", flush=True)
        if answer.status_code != 503 or "Retry-After" not in answer.headers or "\n" in message:
            return False
        if left == 1:
            hooks.freed()
    return False


def _body(body: dict[str, Any]) -> dict[str, Any]:
    if "file" in body:
        return {"data": {"file": (io.BytesIO(json.dumps(body["file"]).encode()), "session.json")},
                "content_type": "multipart/form-data"}  # fmt: skip
    return {"data": body["form"]} if "form" in body else {"json": body}


_FILE = {
    "format": "gpubranches-session",
    "version": 1,
    "name": "brought",
    "asked": "",
    "query": "",
    "seed": 5,
    "model": "ensemble",
    "second_stage": None,
    "lean": 0.0,
    "marks": [{"id": item, "label": 1 - item % 2 * 2, "origin": "user"} for item in (2, 3, 4, 6, 7)],
    "pictures": [],
}
_MARKS = (
    ("POST", f"{API}/marks", {"ids": [6, 7, 8], "label": 1, "event": "event-00001"}),
    ("POST", f"{API}/marks", {"ids": [9], "label": -1, "event": "event-00002"}),
    ("POST", f"{API}/undo", {"event": "event-00003"}),
    ("POST", f"{API}/redo", {"event": "event-00004"}),
    ("POST", f"{API}/marks", {"ids": [6], "label": 0, "event": "event-00005"}),
    ("POST", f"{API}/marks", {"ids": [*range(10, 36)], "label": -1, "event": "event-00006"}),
)
_SESSIONS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/api/v1/sessions", {"name": "second", "seed": 9}),
    ("POST", f"/sessions/{SESSION}/name", {"form": {"title": "renamed"}}),
    ("POST", "/sessions/import", {"file": _FILE}),
    ("POST", f"/sessions/{SESSION}/copy", {"form": {}}),
    ("POST", f"/sessions/{SESSION}/delete", {"form": {}}),
)
_DELETED: tuple[tuple[str, str, Any], ...] = (
    ("POST", f"/sessions/{SESSION}/delete", {"form": {}}),
    ("POST", f"/sessions/{SESSION}/undelete", {"form": {}}),
    ("DELETE", API, {}),
)
_SHOWN: tuple[tuple[str, str, Any], ...] = tuple(("GET", f"/thumbnails/small/{item}.jpg", {}) for item in (0, 1, 3, 4))
_MARKED = ("--positive", "2,6,10", "--negative", "4,8", "--backend", "oracle", "--limit", "0")


def _refined(out: str, *more: str) -> Callable[[Path, Path], Sequence[object]]:
    return lambda given, work: ("refine", work / "c", *_MARKED, "--out", work / out, *more)


def _exported(what: str, out: str) -> Callable[[Path, Path], Sequence[object]]:
    return lambda given, work: ("export", work / "c", what, work / out)


def _made(*arguments: str) -> Callable[[Path, Path], Sequence[object]]:
    """Return a function that makes the arguments of a command; @ is the folder of inputs, = the working folder."""

    def filled(given: Path, work: Path) -> Sequence[object]:
        return [given / a[1:] if a[0] == "@" else work / a[1:] if a[0] == "=" else a for a in arguments]

    return filled


SCENARIOS: tuple[Command | Requests, ...] = (
    Command("ingest embeddings (.npy)", "nothing", _made("ingest", "@rows.npy", "--out", "=c", "--dims", "4")),
    Command("ingest embeddings (.fbin)", "nothing", _made("ingest", "@rows.fbin", "--out", "=new/c", "--dims", "4")),
    Command("ingest codes (.npy)", "nothing", _made("ingest", "@codes.npy", "--out", "=c")),
    Command("ingest codes (.u8bin)", "nothing", _made("ingest", "@codes.u8bin", "--out", "=c")),
    Command("ingest a clip-retrieval folder", "nothing", _made("ingest", "@clip", "--out", "=c", "--dims", "4")),
    Command(
        "ingest pictures", "nothing",
        _made("ingest", "@pictures", "--out", "=c", "--embedder", "fields", "--dims", "4", "--batch-size", "2"),
    ),
    Command(
        "ingest pictures with two models", "nothing",
        _made("ingest", "@pictures", "--out", "=c", "--embedder", "fields", "--embedder", "cubes", "--dims", "4"),
    ),
    Command(
        "ingest a tar", "nothing",
        _made("ingest", "@pictures.tar", "--out", "=c", "--embedder", "fields", "--dims", "4"),
    ),
    Command(
        "ingest pictures in Parquet", "nothing",
        _made("ingest", "@pictures.parquet", "--out", "=c", "--embedder", "fields", "--dims", "4"),
    ),
    Command(
        "ingest embeddings in Parquet", "nothing", _made("ingest", "@embeddings.parquet", "--out", "=c", "--dims", "4"),
    ),
    Command(
        "ingest the scenes of a video", "filmed",
        _made("ingest", "@video.avi", "--out", "=c", "--embedder", "fields", "--dims", "4", "--frames-at", "scenes"),
        needs="av",
    ),
    Command(
        "ingest two inputs", "nothing", _made("ingest", "@other", "@more.npy", "--out", "=c", "--dims", "4"),
    ),
    Command(
        "ingest --fit-only", "nothing", _made("ingest", "@clip", "@other", "--out", "=c", "--fit-only", "--dims", "4"),
    ),
    Command(
        "ingest --shard", "fitted",
        _made("ingest", "@clip", "@other", "--out", "=c", "--shard", "2/2", "--codec-from", "=fitted"),
    ),
    Command("merge", "shards", _made("merge", "=c", "=part-1", "=part-2")),
    Command(
        "ingest other input over what was stopped", "stopped",
        _made("ingest", "@rows.npy", "--out", "=c", "--dims", "4"),
    ),
    Command("append a clip-retrieval folder", "catalog", _made("append", "=c", "@other")),
    Command("append an array", "catalog", _made("append", "=c", "@more.npy")),
    Command("append --new partitions", "part", _made("append", "=c", "@grown", "--new")),
    Command("append pictures", "pictures", _made("append", "=c", "@more-pictures", "--batch-size", "2")),
    Command("append --new pictures", "pictures", _made("append", "=c", "@pictures", "@more-pictures", "--new")),
    Command("sync", "synced", _made("sync", "=c", "@synced", "--batch-size", "2")),
    Command("delete", "catalog", _made("delete", "=c", "7,30")),
    Command("compact", "catalog", _made("compact", "=c")),
    Command("compact --no-embeddings", "head", _made("compact", "=c", "--no-embeddings")),
    Command("encode", "catalog", _made("encode", "=c", "--head", "pca", "--dims", "4", "--quantizer", "uniform")),
    Command("encode with an index", "indexed", _made("encode", "=c", "--head", "@head.safetensors"), needs="head"),
    Command("index", "catalog", _made("index", "=c", "--threads", "1")),
    Command("index in place of an older one", "old index", _made("index", "=c", "--threads", "1")),
    Command("relocate", "pictures", _made("relocate", "=c", "@pictures", "@more-pictures")),
    Command("verify --repair", "damaged", _made("verify", "=c", "--repair")),
    Requests("begin to serve", "catalog", (("POST", "/api/v1/sessions", {"name": "second"}),), from_start=True),
    Requests("mark", "marked", _MARKS),
    Requests("sessions", "marked", _SESSIONS),
    Requests("delete a session and bring it back", "marked", _DELETED),
    Requests("show pictures", "pictures", _SHOWN),
    Command("export csv", "outputs", _refined("out.csv")),
    Command("export parquet", "outputs", _refined("out.parquet")),
    Command("export json", "outputs", _refined("out.json")),
    Command("export jsonl", "catalog", _refined("out.jsonl")),
    Command("export coco", "pictures", _refined("out.coco.json", "--positive", "0,1", "--negative", "3")),
    Command(
        "export img2dataset", "pictures", _refined("out.img2dataset.parquet", "--positive", "0,1", "--negative", "3"),
    ),
    Command("export links", "pictures", _refined("out", "--format", "links", "--positive", "0,1", "--negative", "3")),
    Command("export links as tar", "pictures", _refined("out.tar", "--positive", "0,1", "--negative", "3")),
    Command("export codes (.u8bin)", "catalog", _exported("codes", "out.u8bin")),
    Command("export codes (.parquet)", "catalog", _exported("codes", "out.parquet")),
    Command("export embeddings", "catalog", _exported("embeddings", "out")),
    Command("export labels", "marked", _exported("labels", "out.json")),
    Command(
        "train-head", "nothing", _made("train-head", "@rows.npy", "--out", "=out.safetensors", *TRAINING),
        needs="torch",
    ),
)  # fmt: skip
