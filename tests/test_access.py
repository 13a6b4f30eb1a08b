"""Who may come in, what every answer carries, and what a foreign page cannot do."""

import base64
import csv
import io
import json
import re
import stat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from clusters import write_world
from hypothesis import given
from hypothesis import strategies as st
from serving import *  # noqa: F403
from serving import API, TOKEN, begun, found_all

from gpubranches import Catalog, cli, open_backend
from gpubranches.app import create_app, open_server
from gpubranches.app.access import COOKIE, Access, check_token, is_loopback, read_token
from gpubranches.errors import UsageError
from gpubranches.ingestion import ingest

BEARER = {"Authorization": f"Bearer {TOKEN}"}
HX = {"HX-Request": "true"}
GUARDED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.fixture
def locked(make):
    return make(token=TOKEN)


def test_every_kind_of_answer_carries_the_headers(make, monkeypatch, labels):
    app, locked = make(), make(token=TOKEN)
    client = app.test_client()
    at, _ = found_all(client, labels)
    monkeypatch.setattr("gpubranches.service.catalog_service.CatalogService.random", lambda *a: 1 / 0)
    answers = {
        "page": client.get("/search?q=teapot"),
        "fragment": client.get("/search?q=teapot", headers=HX),
        "static": client.get("/static/page.css"),
        "thumbnail": client.get("/thumbnails/small/0.jpg"),
        "kept thumbnail": client.get("/thumbnails/small/0.jpg", headers={"If-None-Match": "*"}),
        "json": client.get(f"{API}/health"),
        "lines": client.get(f"{at}/matches.jsonl"),
        "file": client.get(f"{at}/matches.csv"),
        "metrics": client.get("/metrics"),
        "health": client.get("/healthz"),
        "no content": client.delete(begun(client)),
        "400": open_and_name(app, "evil.example"),
        "401": locked.test_client().get(f"{API}/health"),
        "303": locked.test_client().get("/"),
        "403": client.post("/mark"),
        "404": client.get("/nowhere"),
        "404 of the api": client.get(f"{API}/nowhere"),
        "405": client.get("/undo"),
        "413": client.post(f"{API}/search", data=bytes(2 << 20), content_type="application/json"),
        "415": client.post(f"{API}/search", data="x"),
        "422": client.get("/like?id=x"),
        "422 of the api": client.post(f"{API}/search", json={}),
        "500": client.get("/random?seed=1"),
        "500 of a fragment": client.get("/random?seed=1", headers=HX),
    }
    for name, answer in answers.items():
        with answer:
            if name[0].isdigit():
                assert answer.status_code == int(name[:3]), name
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy, name
            assert "frame-ancestors 'none'" in policy, name
            assert "unsafe" not in policy, name
            assert {key: answer.headers[key] for key in GUARDED} == GUARDED, name
            assert "Cache-Control" in answer.headers, name


def open_and_name(app, host):
    open_server(app, "127.0.0.1", 0).close()
    answer = app.test_client().get("/", headers={"Host": host})
    app.extensions["gpubranches.access"] = Access()
    return answer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_is_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_beyond_loopback_a_server_does_not_start_without_a_token(app, host):
    assert not is_loopback(host)
    with pytest.raises(UsageError, match=r"--token-file token\.txt, or set GPUBRANCHES_TOKEN"):
        open_server(app, host, 0)


def test_the_command_refuses_before_it_opens_anything(tmp_path, monkeypatch):
    monkeypatch.delenv("GPUBRANCHES_TOKEN", raising=False)
    done = CliRunner().invoke(cli.cli, ["serve", str(tmp_path / "none"), "--host", "0.0.0.0"])
    assert isinstance(done.exception, UsageError)
    assert "secrets.token_urlsafe" in str(done.exception)


def test_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("GPUBRANCHES_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("GPUBRANCHES_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    file = tmp_path / "token.txt"
    file.write_text("another-token-of-the-tests\n")
    assert read_token(file) == "another-token-of-the-tests"
    with pytest.raises(UsageError, match="cannot read"):
        read_token(tmp_path / "none")
    file.write_bytes(b"\xff" * 30)
    with pytest.raises(UsageError, match="cannot read"):
        read_token(file)


@pytest.mark.parametrize("token", ["short", "with a space in it, though long", "ünïcödé-that-is-long-enough", "x" * 19])
def test_a_token_that_cannot_serve_is_refused(token):
    with pytest.raises(UsageError, match="20 ASCII characters"):
        check_token(token, "token")


@given(st.text(max_size=40))
def test_only_the_token_is_the_token(text):
    assert Access(TOKEN).is_token(text) == (text == TOKEN)
    assert not Access(None).is_token(text)


OPEN = ["/healthz", "/readyz", "/login", "/static/page.css"]
SHUT = ["/", "/search?q=teapot", "/thumbnails/small/0.jpg", "/sessions", "/metrics", "/indices-list", f"{API}/health"]


def test_with_a_token_nothing_but_the_login_and_the_monitors_is_open(locked):
    client = locked.test_client()
    for path in OPEN:
        with client.get(path) as answer:
            assert answer.status_code == 200, path
    assert client.get("/healthz").json == {"status": "ok"}
    assert client.get("/healthz", headers=BEARER).json["items"] == 700
    for path in SHUT:
        answer = client.get(path)
        machine = path.startswith(("/api", "/metrics", "/indices"))
        assert answer.status_code == (401 if machine else 303), path
        assert answer.headers["WWW-Authenticate" if machine else "Location"] == ("Bearer" if machine else "/login")
        with client.get(path, headers=BEARER) as answer:
            assert answer.status_code == 200, path
    for wrong in ("Bearer", "Bearer x", f"Bearer {TOKEN}x", f"Basic {TOKEN}", f"bearer{TOKEN}"):
        assert client.get(f"{API}/health", headers={"Authorization": wrong}).status_code == 401
    assert client.post("/mark", data={"id": 1, "value": 1}, headers=HX).status_code == 401
    assert client.get("/", headers=HX).status_code == 401


def test_every_address_but_those_asks_for_the_token(locked):
    """Whatever is added later is shut, too."""
    client = locked.test_client()
    for rule in locked.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "1", rule.rule)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            if rule.endpoint in ("access.login", "access.enter", "health.alive", "health.ready", "static"):
                continue
            assert client.open(path, method=method, headers=HX).status_code == 401, (method, path)


def test_a_browser_logs_in_once(locked):
    client = locked.test_client()
    assert 'action="/login"' in client.get("/login").text
    refused = client.post("/login", data={"token": "not-the-token-of-this-server"})
    assert (refused.status_code, "not the token" in refused.text) == (401, True)
    assert client.get_cookie(COOKIE) is None
    entered = client.post("/login", data={"token": TOKEN})
    assert (entered.status_code, entered.headers["Location"]) == (303, "/")
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/").status_code == 200
    assert client.post("/mark", data={"id": 1, "value": 1}, headers=HX).status_code == 200
    client.set_cookie(COOKIE, "0" * 64)
    assert client.get("/").status_code == 303


def test_the_cookie_of_one_token_does_not_open_another(make):
    first, second = make(token=TOKEN).test_client(), make(token=TOKEN + "2").test_client()
    first.post("/login", data={"token": TOKEN})
    second.set_cookie(COOKIE, first.get_cookie(COOKIE).value)
    assert second.get("/").status_code == 303


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://[evil"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_cannot_drive_the_api_or_the_page(client, locked, headers):
    at = begun(client)
    assert client.post(f"{at}/marks", json={"ids": [1], "label": 1}, headers=headers).status_code == 403
    assert client.delete(at, headers=headers).status_code == 403
    assert client.post(f"{API}/sessions", json={}, headers=headers).status_code == 403
    assert client.get(f"{API}/sessions", headers=headers).status_code == 403
    assert client.post("/knn-service", data='{"text": "teapot"}', headers=headers).status_code == 403
    assert client.post("/mark", data={"id": 1, "value": 1}, headers={**HX, **headers}).status_code == 403
    assert client.get(at).json["positive"] == 0
    entered = locked.test_client()
    assert entered.post("/login", data={"token": TOKEN}, headers=headers).status_code == 403
    entered.post("/login", data={"token": TOKEN})
    assert entered.post(f"{API}/sessions", json={}, headers=headers).status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_what_a_foreign_form_can_send_is_refused_by_its_type(client, kind):
    """Also where a browser tells neither origin nor site."""
    at = begun(client)
    for path, body in (("marks", {"ids": [1], "label": 1}), ("undo", {}), ("refine", {}), ("recut", {"lean": 0})):
        assert client.post(f"{at}/{path}", data=json.dumps(body), content_type=kind).status_code == 415
    assert client.get(at).json["positive"] == 0


def test_a_call_with_the_token_needs_no_more_and_one_without_does(locked):
    client = locked.test_client()
    foreign = {**BEARER, "Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"}
    assert client.post(f"{API}/sessions", json={}, headers=foreign).status_code == 201
    assert client.post("/mark", data={"id": 1, "value": 1}, headers=BEARER).status_code == 200
    password = {"Authorization": "Basic " + base64.b64encode(f"any:{TOKEN}".encode()).decode()}
    assert client.post("/knn-service", data='{"text": "teapot"}', headers=password).status_code == 200
    crossed = {**password, "Sec-Fetch-Site": "cross-site"}
    assert client.post("/knn-service", data='{"text": "teapot"}', headers=crossed).status_code == 403
    assert client.post("/mark", data={"id": 1, "value": 1}, headers=password).status_code == 403


def test_hosts_are_checked_beyond_loopback_too(make):
    app = make(token=TOKEN)
    open_server(app, "0.0.0.0", 0, allowed_hosts=("photos.example",)).close()
    client = app.test_client()
    for host in ("photos.example", "photos.example:8765", "127.0.0.1", "localhost:80", "10.1.2.3:8765", "[::1]:9"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "photos.example.evil", "10.1.2.3.evil.example", "[", "", "a b"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 400, host


@given(st.text(max_size=30))
def test_no_foreign_name_is_taken_for_this_server(host):
    rules = Access(hosts=frozenset(("localhost", "photos.example")))
    if rules.accepts_host(host):
        assert re.fullmatch(r"(.*@)?(localhost|photos\.example)(:.*)?([/?#].*)?", host, re.IGNORECASE | re.DOTALL)


SPITEFUL = [
    '=HYPERLINK("http://evil.example","x").jpg',
    '"><img src=x onerror=alert(1)>.jpg',
    "two\nlines\r\n'quoted', and; more.jpg",
    "</script><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "+1+1",
    "\t@sum(1)",
    "-2",
]


@pytest.fixture(scope="module")
def spiteful(tmp_path_factory):
    """A catalog whose texts, and names of columns, are what an attacker would write."""
    folder = tmp_path_factory.mktemp("spiteful")
    write_world(folder, 60)
    texts = [SPITEFUL[row % len(SPITEFUL)] for row in range(60)]
    table = pa.table({"caption": texts, "url": texts, "<b>=x</b>": texts})
    pq.write_table(table, folder / "images/metadata/metadata_0.parquet")
    ingest([folder / "images"], folder / "catalog")
    catalog = Catalog.open(folder / "catalog")
    with open_backend("oracle", catalog) as backend:
        app = create_app(catalog, backend)
        yield app
        app.extensions["gpubranches"].service.close()


def test_names_are_text_on_every_page(spiteful):
    client = spiteful.test_client()
    for path in ("/", "/like?id=1", "/random?seed=1", *(f"/items/{item}" for item in range(len(SPITEFUL)))):
        page = client.get(path).text
        assert "<img src=x" not in page, path
        assert "<script>" not in page, path
        assert "<b>=x" not in page, path
        assert "49" not in re.findall(r">\s*49", page), path
        assert not re.search(r'alt="[^"]*"[^>]*onerror', page), path


def test_names_are_whole_in_the_api_and_tame_in_csv(spiteful):
    client = spiteful.test_client()
    at = begun(client)
    client.post(f"{at}/marks", json={"ids": list(range(20)), "label": 1})
    assert client.post(f"{at}/refine", json={"model": "branch"}).status_code == 200
    lines = [json.loads(line) for line in client.get(f"{at}/matches.jsonl").text.splitlines()]
    assert set(SPITEFUL) <= {line["caption"] for line in lines}
    with client.get(f"{at}/matches.json") as file:
        assert file.json == lines
    with client.get(f"{at}/matches.csv") as file:
        assert file.mimetype == "text/csv"
        rows = list(csv.DictReader(io.StringIO(file.text.removeprefix("\ufeff"), newline="")))
    for row, line in zip(rows, lines, strict=True):  # in CSV a part that would be a formula has an apostrophe
        assert row["caption"].replace("'", "") == line["caption"].replace("'", "")
        assert not row["caption"].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert float(row["score"]) == pytest.approx(next(x["score"] for x in lines if x["id"] == int(row["id"])))
    found = client.post("/knn-service", json={"embedding_input": [1.0] * 64, "num_images": 60}).json
    assert {row["url"] for row in found} == set(SPITEFUL)


@pytest.mark.parametrize("name", ["../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "0/../../x", "-1", "0.png", "1e3"])
def test_no_path_comes_from_a_request(client, name):
    for size in ("small", "large", "..", "../static"):
        answer = client.get(f"/thumbnails/{size}/{name}.jpg")
        assert answer.status_code == 404
        assert "root:" not in answer.text


def test_a_picture_outside_its_folder_is_not_shown(tmp_path):
    write_world(tmp_path, 60)
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    secret.chmod(stat.S_IRUSR)
    paths = ["../secret.jpg", str(secret), "a/../../secret.jpg"] * 20
    table = pa.table({"caption": paths, "image_path": paths})
    pq.write_table(table, tmp_path / "images/metadata/metadata_0.parquet")
    ingest([tmp_path / "images"], tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    with open_backend("oracle", catalog) as backend:
        app = create_app(catalog, backend)
        client = app.test_client()
        assert {client.get(f"/thumbnails/small/{item}.jpg").status_code for item in range(3)} == {404}
        found = client.post("/knn-service", json={"embedding_input": [1.0] * 64, "num_images": 9}).json
        assert all("url" not in row for row in found)
        app.extensions["gpubranches"].service.close()
