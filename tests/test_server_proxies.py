"""Behind reverse proxies: under a prefix, with another Host, and what is said where a proxy is not believed."""

import re

import pytest
from click.testing import CliRunner
from serving import *  # noqa: F403
from serving import TOKEN

from gpubranches import cli
from gpubranches.app.access import listen_on
from gpubranches.app.proxies import Proxies, install
from gpubranches.errors import UsageError

HX = {"HX-Request": "true"}
NGINX = {"X-Forwarded-Host": "photos.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
BROWSER = {"Origin": "https://photos.example.org", "Sec-Fetch-Site": "same-origin", **HX}
LINK = re.compile(r'(?:href|src|action|hx-get|hx-post|data-address|data-picture)="([^"]*)"')
PAGES = ("/", "/like?id=3", "/random?seed=2", "/matches", "/sessions")


@pytest.fixture
def behind(make):
    """Make an app behind a proxy: what it believes, and whether it listens as `serve` does."""

    def made(networks=("127.0.0.1",), prefix="", **options):
        app = make(**options)
        listen_on(app, "127.0.0.1", ("photos.example.org",))
        install(app, Proxies.parse(networks, prefix))
        return app

    return made


def links(answer):
    """Return where a page leads, without what it names itself and what lies on other servers."""
    return [link.replace("&amp;", "&") for link in LINK.findall(answer.text) if link and not link.startswith("#")]


@pytest.mark.parametrize("said", [{"X-Forwarded-Prefix": "/photos"}, {"X-Forwarded-Prefix": "/photos/"}, {}])
def test_every_link_of_every_page_lies_under_the_prefix_and_leads_somewhere(behind, said):
    client = behind(prefix="" if said else "/photos/").test_client()
    headers = {**NGINX, **said}
    # What a browser sends as a cookie of the prefix.
    headers["X-Session"] = re.search(r'data-session="([^"]+)"', client.get("/", headers=headers).text)[1]
    client.post("/mark", data={"id": [1, 2, 3], "value": 1}, headers={**headers, **BROWSER})
    client.post("/refine", data={"second_stage": "1"}, headers={**headers, **BROWSER})
    for page in PAGES:
        answer = client.get(page, headers=headers)
        assert answer.status_code == 200, page
        found = links(answer)
        assert len(found) > 5, page
        assert all(link.startswith("/photos/") for link in found), page
        assert 'data-root="/photos"' in answer.text
    shown = client.get("/like?id=3", headers=headers)
    for name in re.findall(r"/photos(/static/[a-z.]+)", shown.text):
        with client.get(name, headers=headers) as file:
            assert file.status_code == 200
    assert client.get("/like?id=3", headers={**headers, **HX}).headers["HX-Push-Url"] == "/photos/like?id=3"
    refined = client.post("/refine", data={"second_stage": "1"}, headers={**headers, **BROWSER})
    assert refined.headers["HX-Push-Url"] == "/photos/matches"
    del headers["X-Session"]
    begun = client.post("/sessions/new", headers={**headers, **BROWSER})
    assert begun.headers["HX-Redirect"] == "/photos/"
    assert "Path=/photos/;" in begun.headers["Set-Cookie"]


def test_a_session_begun_under_a_prefix_is_opened_without_one(behind):
    client = behind().test_client()
    headers = {**NGINX, "X-Forwarded-Prefix": "/photos"}
    cookie = client.get("/like?id=3", headers=headers).headers["Set-Cookie"]
    session = re.match("gpubranches=([^;]+)", cookie)[1]
    opened = client.post(f"/sessions/{session}/open", headers=HX)
    assert opened.headers["HX-Redirect"] == "/like?id=3"


def test_a_proxy_that_leaves_the_prefix_in_the_address_is_understood(behind):
    client = behind((), "/photos").test_client()
    for path in ("/photos", "/photos/", "/photos/sessions", "/photos/static/page.css", "/photos/healthz", "/"):
        with client.get(path) as answer:
            assert answer.status_code == 200, path
    assert client.get("/photosynthesis").status_code == 404


def test_a_login_leads_to_the_page_under_the_prefix(behind):
    client = behind(token=TOKEN).test_client()
    headers = {**NGINX, "X-Forwarded-Prefix": "/photos"}
    assert client.get("/", headers=headers).headers["Location"] == "/photos/login"
    page = client.get("/login", headers=headers)
    assert 'action="/photos/login"' in page.text
    entered = client.post("/login", data={"token": TOKEN}, headers={**headers, "Origin": BROWSER["Origin"]})
    assert entered.headers["Location"] == "/photos/"
    cookie = entered.headers["Set-Cookie"]
    assert "Path=/photos/;" in cookie
    assert "Secure" in cookie


def test_marks_pass_a_proxy_that_sends_its_own_host(behind):
    mark = {"data": {"id": 3, "value": 1}}
    assert behind().test_client().post("/mark", headers={**NGINX, **BROWSER}, **mark).status_code == 200
    for own in ({}, {"X-Forwarded-Port": "443"}):
        other = {**NGINX, **BROWSER, **own, "Origin": "https://evil.example"}
        assert behind().test_client().post("/mark", headers=other, **mark).status_code == 403
    ported = {**NGINX, **BROWSER, "X-Forwarded-Port": "8443", "Origin": "https://photos.example.org:8443"}
    assert behind().test_client().post("/mark", headers=ported, **mark).status_code == 200


def test_a_believed_proxy_names_hosts_that_are_let_in_alone(behind):
    client = behind().test_client()
    answer = client.get("/", headers={**NGINX, "X-Forwarded-Host": "evil.example"})
    assert answer.status_code == 400
    assert "--allowed-host" in answer.text
    assert "evil.example" in answer.text


@pytest.mark.parametrize("networks", [(), ("10.0.0.0/8",), ("::1",)])
def test_what_others_than_the_proxy_say_is_not_believed_and_the_option_is_named(behind, networks):
    client = behind(networks).test_client()
    answer = client.post("/mark", data={"id": 3, "value": 1}, headers={**NGINX, **BROWSER})
    assert answer.status_code == 403
    for part in ("X-Forwarded-Host", "--behind-proxy 127.0.0.1", "photos.example.org"):
        assert part in answer.text
    answer = client.get("/", headers={**NGINX, "X-Forwarded-Prefix": "/photos"})
    assert answer.status_code == 400
    assert "--behind-proxy 127.0.0.1" in answer.text
    assert "/photos" in answer.text
    assert client.get("/healthz", headers={"X-Forwarded-Prefix": "/photos"}).status_code == 200


def test_a_proxy_that_changes_the_host_and_says_nothing_is_told_of(behind):
    answer = behind(()).test_client().post("/mark", data={"id": 3, "value": 1}, headers=BROWSER)
    assert answer.status_code == 403
    for part in ("proxy_set_header Host $http_host", "--behind-proxy", "localhost"):
        assert part in answer.text
    elsewhere = {**BROWSER, "Sec-Fetch-Site": "cross-site"}
    answer = behind(()).test_client().post("/mark", data={"id": 3, "value": 1}, headers=elsewhere)
    assert answer.status_code == 403
    assert "proxy" not in answer.text


@pytest.mark.parametrize("prefix", ["//evil.example", "/a//b", "photos", "/a b", "/../x", '/"onload=', "/é"])
def test_a_prefix_that_is_no_path_is_not_taken(behind, prefix):
    with pytest.raises(UsageError, match="--prefix"):
        Proxies.parse((), prefix)
    page = behind().test_client().get("/", headers={**NGINX, "X-Forwarded-Prefix": prefix.encode().decode("latin-1")})
    assert page.status_code == 200
    assert 'data-root=""' in page.text


@pytest.mark.parametrize("option", [["--behind-proxy", "proxy.example"], ["--prefix", "photos"]])
def test_serve_names_the_option_that_is_wrong(folder, option):
    ended = CliRunner().invoke(cli.cli, ["serve", str(folder / "catalog"), *option])
    assert isinstance(ended.exception, UsageError)
    assert option[0] in str(ended.exception)
