"""The API against its own OpenAPI file: schemathesis draws requests, sound ones and others, and judges the answers."""

import numpy as np
import pytest
from clusters import write_world
from hypothesis import HealthCheck, given, settings

from gpubranches import Catalog, VocabularyEmbedder, open_backend
from gpubranches.app import create_app
from gpubranches.app.api import OPERATIONS, PREFIX
from gpubranches.app.api.openapi import document
from gpubranches.app.limits import TokenBuckets
from gpubranches.ingestion import ingest

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

# schemathesis reads the files it is sent and does not close them.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    write_world(folder, 240)
    ingest([folder / "images"], folder / "catalog")
    catalog = Catalog.open(folder / "catalog")
    embedder = VocabularyEmbedder.load(folder / "text/emb.npy", folder / "text/names.json")
    with open_backend("oracle", catalog) as backend:
        made = create_app(catalog, backend, embedder=embedder)
        made.extensions["gpubranches"].limits.training_rate = TokenBuckets(burst=10**6)
        yield made
        made.extensions["gpubranches"].service.close()


@pytest.fixture(scope="module")
def found(app):
    """A session that has found all once."""
    client = app.test_client()
    name = client.post(f"{PREFIX}/sessions", json={}).json["session"]
    near = [row["id"] for row in client.post(f"{PREFIX}/search", json={"item": 3, "k": 6}).json["items"]]
    client.post(f"{PREFIX}/sessions/{name}/marks", json={"ids": near, "label": 1})
    assert client.post(f"{PREFIX}/sessions/{name}/refine", json={"model": "branch"}).status_code == 200
    return name


@pytest.fixture(scope="module")
def description(app):
    return schemathesis.openapi.from_wsgi(f"{PREFIX}/openapi.json", app)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_every_operation_keeps_what_its_description_promises(description, found, row, mode):
    if mode.is_negative and not (row.body or row.query or "format" in row.path_parameters):
        pytest.skip("nothing can be asked wrongly")

    @given(case=description[PREFIX + row.path][row.method].as_strategy(generation_mode=mode))
    @settings(max_examples=8, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case):
        if "session" in row.path_parameters and row.name != "delete":
            case.path_parameters["session"] = found
        case.call_and_validate(checks=CHECKS)

    ask()


def test_every_route_is_described_and_every_description_is_a_route(app):
    rules = {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(PREFIX)
        for method in rule.methods - {"HEAD"}
    }
    paths = document()["paths"]
    assert rules == {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert len(OPERATIONS) == len(rules) > 20
    names = [told["operationId"] for methods in paths.values() for told in methods.values()]
    assert len(set(names)) == len(names)
    assert all(told["summary"] for methods in paths.values() for told in methods.values())


def test_the_file_is_served_and_says_when_a_token_is_asked_for(app):
    served = app.test_client().get(f"{PREFIX}/openapi.json").json
    assert served == document()
    assert served["openapi"].startswith("3.1")
    assert document(locked=True)["security"] == [{"token": []}]
    assert np.array(served["security"]).size == 0
