"""Metrics for Prometheus at /metrics: requests, times of the work users wait for, the catalog, the process."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from gpubranches.engines.sharded import ShardedBackend

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from gpubranches.service.catalog_service import CatalogService

WORK = {
    "search.search": "search",
    "search.like": "search",
    "api.search": "search",
    "api.search_image": "search",
    "knn_service.knn": "search",
    "marks.mark": "mark",
    "marks.clear": "mark",
    "marks.undo": "mark",
    "marks.redo": "mark",
    "api.mark": "mark",
    "api.clear": "mark",
    "api.undo": "mark",
    "api.redo": "mark",
    "refine.refine": "refine",
    "api.refine": "refine",
}
"""The kind of work of each endpoint that users wait for."""
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

routes = Blueprint("metrics", __name__)


class Metrics:
    """The metrics of one app."""

    def __init__(self, service: CatalogService):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_Served(service))
        self.requests = Counter(
            "gpubranches_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "gpubranches_request_seconds", "Time to answer.", ("route",), buckets=_SECONDS, registry=self.registry
        )
        self.work = Histogram(
            "gpubranches_work_seconds",
            "Time of searches, marks and refines that were answered without an error.",
            ("work",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        for work in set(WORK.values()):
            self.work.labels(work)

    def count(self, response: Response) -> Response:
        """Count a request by its response. All addresses that do not exist count as one route."""
        seconds = time.perf_counter() - g.get("began_s", time.perf_counter())
        route = "none" if request.url_rule is None else request.url_rule.rule
        self.requests.labels(route, _METHODS.get(request.method, "other"), response.status_code).inc()
        self.seconds.labels(route).observe(seconds)
        work = WORK.get(request.endpoint or "")
        if work is not None and response.status_code < 400:
            self.work.labels(work).observe(seconds)
        return response


_METHODS = {method: method for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


class _Served:
    """Collects the state of the catalog and the sessions when the metrics are read."""

    def __init__(self, service: CatalogService):
        self._service = service

    def collect(self) -> Iterable[Metric]:
        catalog = self._service.catalog
        yield GaugeMetricFamily("gpubranches_catalog_items", "Items of the catalog.", catalog.n)
        yield GaugeMetricFamily("gpubranches_catalog_deleted_items", "Deleted items still on disk.", catalog.n_deleted)
        yield GaugeMetricFamily("gpubranches_catalog_generation", "Commits of the catalog.", catalog.generation)
        yield GaugeMetricFamily("gpubranches_sessions_open", "Sessions in memory.", len(self._service.sessions))
        if isinstance(self._service.backend, ShardedBackend):
            yield from _shard_metrics(self._service.backend)


def _shard_metrics(backend: ShardedBackend) -> Iterable[Metric]:
    """Yield the state of each shard, by its number."""
    states = backend.shard_states()
    for name, what, key in (
        ("gpubranches_shard_rows", "Rows of a shard.", "rows"),
        ("gpubranches_shard_restarts", "How often a shard was started again.", "restarts"),
        ("gpubranches_shard_answer_seconds", "Median time of the last answers of a shard.", "median_s"),
    ):
        family = GaugeMetricFamily(name, what, labels=("shard",))
        for number, state in enumerate(states, 1):
            family.add_metric((str(number),), state[key])
        yield family


def install(app: Flask, service: CatalogService) -> None:
    """Count all requests of an app."""
    counted = Metrics(service)
    app.extensions["gpubranches.metrics"] = counted
    app.before_request(_begin)
    app.after_request(counted.count)


def _begin() -> None:
    g.began_s = time.perf_counter()


@routes.get("/metrics")
def metrics() -> Response:
    """Return all metrics in the text format of Prometheus."""
    counted = cast(Metrics, current_app.extensions["gpubranches.metrics"])
    return Response(generate_latest(counted.registry), content_type=CONTENT_TYPE_LATEST)
