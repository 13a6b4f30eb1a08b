from prometheus_client.parser import text_string_to_metric_families
from serving import *  # noqa: F403
from serving import begun, found_all

from gpubranches.app.metrics_routes import WORK
from gpubranches.engines.oracle import OracleBackend
from gpubranches.errors import BackendUnavailableError


def numbers(client):
    told = client.get("/metrics")
    assert told.mimetype == "text/plain"
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(told.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_method_and_status(client):
    for path in ("/like?id=3", "/like?id=4", "/like?id=x", "/nowhere", "/neither"):
        client.get(path)
    told = numbers(client)
    assert told["gpubranches_requests_total", *sorted(("/like", "200", "GET"))] == 2
    assert told["gpubranches_requests_total", *sorted(("/like", "422", "GET"))] == 1
    assert told["gpubranches_requests_total", *sorted(("none", "404", "GET"))] == 2
    assert told["gpubranches_request_seconds_count", "/like"] == 3
    assert 0 < told["gpubranches_request_seconds_sum", "/like"] < 60


def test_searches_marks_and_refines_are_counted_wherever_they_are_asked(client, labels):
    found_all(client, labels)
    client.get("/search?q=teapot")
    client.post("/mark", data={"id": 1, "value": 1}, headers={"HX-Request": "true"})
    client.post(f"{begun(client)}/refine", json={})
    told = numbers(client)
    counted = {work: told["gpubranches_work_seconds_count", work] for work in ("search", "mark", "refine")}
    assert counted == {"search": 2, "mark": 3, "refine": 1}
    assert told["gpubranches_work_seconds_bucket", *sorted(("+Inf", "refine"))] == 1


def test_what_is_served_and_what_it_takes_is_told(client, labels):
    begun(client)
    told = numbers(client)
    assert told["gpubranches_catalog_items",] == 700
    assert told["gpubranches_catalog_generation",] == 1
    assert told["gpubranches_sessions_open",] == 1
    assert told["process_resident_memory_bytes",] > 1 << 20


def test_all_counted_addresses_exist(app):
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert set(WORK) <= endpoints
    assert {work for endpoint, work in WORK.items() if endpoint.startswith("api.")} == set(WORK.values())


def test_methods_nobody_knows_do_not_grow_the_numbers(client):
    for method in ("BREW", "WHEN"):
        client.open("/", method=method)
    assert numbers(client)["gpubranches_requests_total", *sorted(("none", "403", "other"))] == 2


def test_ready_is_ready_only_while_the_backend_answers(make, monkeypatch):
    assert make().test_client().get("/readyz").json == {"status": "ready"}

    def fail(*a, **k):
        raise BackendUnavailableError("the card is gone")

    monkeypatch.setattr(OracleBackend, "search", fail)
    client = make().test_client()
    refused = client.get("/readyz")
    assert (refused.status_code, "the card is gone" in refused.text) == (503, True)
    assert client.get("/healthz").status_code == 200
    monkeypatch.undo()
    assert client.get("/readyz").status_code == 200


def test_the_backend_is_not_asked_at_every_look(client, monkeypatch):
    asked = []
    search = OracleBackend.search
    monkeypatch.setattr(OracleBackend, "search", lambda *a, **k: asked.append(1) or search(*a, **k))
    assert {client.get("/readyz").status_code for _ in range(5)} == {200}
    assert len(asked) == 1
