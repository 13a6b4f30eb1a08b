"""Errors on the page in German: every class of them, and the messages that users can bring about."""

import io
import re
from html import unescape

import numpy as np
import pytest
from serving import *  # noqa: F403
from test_texts import WORD, english_in
from werkzeug.exceptions import default_exceptions

from gpubranches.app import request_checks
from gpubranches.app.app_context import context_of
from gpubranches.app.limits import DownloadSlots, TokenBuckets, TrainingSlots
from gpubranches.errors import GpuBranchesError, TooManyError, UnknownNameError
from gpubranches.service.export import zip_file
from gpubranches.service.uploads import MOST_BYTES

GERMAN = {"Accept-Language": "de", "HX-Request": "true"}
MARKED = re.compile(r'<span lang="en">.*?</span>', re.DOTALL)
TYPED = re.compile(r"„.*?“|\bdog [-+][^.]*")
"""What a text quotes, and what it advises to type."""


def english(html):
    """Return the English words that a German text shows, outside of what it marks as English."""
    return english_in(TYPED.sub("", unescape(re.sub(r"<[^>]*>", " ", MARKED.sub("", html)))))


def classes(base):
    yield base
    for sub in base.__subclasses__():
        yield from classes(sub)


def an(error_class):
    """Return an error whose message is English."""
    arguments = {TooManyError: (5,), UnknownNameError: ("xqzw", 7)}.get(error_class, ())
    message = ("nothing of this message is translated",) if issubclass(error_class, GpuBranchesError) else ()
    return error_class(*message, *arguments)


OURS = sorted({c for c in classes(GpuBranchesError) if c.__module__ == "gpubranches.errors"}, key=lambda c: c.__name__)


@pytest.mark.parametrize("error_class", [*OURS, *default_exceptions.values(), RuntimeError], ids=lambda c: c.__name__)
def test_every_class_of_errors_is_told_in_german(app, error_class):
    error = an(error_class)
    with app.test_request_context("/", headers=GERMAN):
        if isinstance(error, GpuBranchesError):
            answered = request_checks.show_error(error)
        elif error_class is RuntimeError:
            answered = request_checks.show_failure(error)
        else:
            answered = request_checks.show_http_error(error)
    shown = answered.get_data(as_text=True)
    assert english(shown) == []
    assert len(WORD.findall(re.sub(r"<[^>]*>", " ", MARKED.sub("", shown)))) >= 5


QUERIES = [
    "",
    "x" * 1001,
    " + ".join("dog" for _ in range(33)),
    "- dog",
    "dog +",
    "+ - dog",
    '""',
    "#dog",
]
QUERIES += ["picture:dog", "picture:abcdefghij", "#99999999", "xqzw"]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:20] or "nothing")
def test_every_mistake_in_a_query_is_told_in_german(client, query):
    answered = client.get("/search", query_string={"q": query}, headers=GERMAN)
    assert answered.status_code == 422
    assert english(answered.text) == []
    assert not MARKED.search(answered.text)


def file(content):
    return {"file": (io.BytesIO(content), "session.json")}


def requests_of_users(client):
    """Yield what a user can be refused: the name of the case, and the response."""
    get = lambda path: client.get(path, headers=GERMAN)  # noqa: E731
    post = lambda path, **sent: client.post(path, headers=GERMAN, **sent)  # noqa: E731
    yield "nothing found", get("/suggest")
    yield "no export", get("/export/matches.csv")
    yield "none right", post("/refine")
    yield "no session file", post("/sessions/import")
    yield "another file", post("/sessions/import", data=file(b"\x00 no session"))
    yield "a damaged session", post("/sessions/import", data=file(b'{"format": "gpubranches session", "version": 1}'))
    yield "no picture", post("/pictures", data=b"no picture", content_type="image/png")
    yield "nothing sent", post("/pictures", data=b"", content_type="image/png")
    yield "a film", post("/pictures", data=b"film", content_type="video/mp4")
    yield "a large picture", post("/pictures", data=bytes(MOST_BYTES + 1), content_type="image/png")
    yield "an unknown session", post(f"/sessions/{'x' * 21}/open")
    yield "a session that is gone for good", post(f"/sessions/{'x' * 22}/undelete")
    yield "no such page", get("/nowhere")
    yield "no such item", get("/items/99999999")
    yield "not a filter", get("/search?q=teapot&where=label")


def test_what_users_are_refused_is_told_in_german(client):
    for name, answered in requests_of_users(client):
        assert answered.status_code >= 400, name
        assert english(answered.text) == [], name


def test_limits_are_told_in_german(client, app, labels, monkeypatch):
    limits = context_of(app).limits
    ids = np.flatnonzero(labels == 1)[:6].tolist()
    client.post("/mark", data={"id": ids, "value": "1"}, headers=GERMAN)
    assert client.post("/refine", headers=GERMAN).status_code == 200
    monkeypatch.setattr(limits, "training_rate", TokenBuckets(burst=0, every_s=60))
    monkeypatch.setattr(limits, "downloads", DownloadSlots(0))
    refused = [client.post("/refine", headers=GERMAN), client.get("/export/matches.zip", headers=GERMAN)]
    monkeypatch.setattr(limits, "training_rate", TokenBuckets())
    monkeypatch.setattr(limits, "training", TrainingSlots(admitted=0, running=1))
    refused.append(client.post("/refine", headers=GERMAN))
    assert [answered.status_code for answered in refused] == [429] * 3
    monkeypatch.setattr(zip_file, "MOST_PICTURES", 1)
    refused.append(client.get("/export/matches.zip", headers=GERMAN))
    for answered in refused:
        assert english(answered.text) == []
        assert not MARKED.search(answered.text)
