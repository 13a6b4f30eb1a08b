"""What Prometheus collects at /metrics: requests, work done and its times, what is served, the process."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from gpubranches.service.app_context import Desk

WORK = {
    "looking.search": "search",
    "looking.like": "search",
    "api.search": "search",
    "api.search_image": "search",
    "knn_service.knn": "search",
    "marking.mark": "mark",
    "marking.clear": "mark",
    "marking.undo": "mark",
    "marking.redo": "mark",
    "api.mark": "mark",
    "api.clear": "mark",
    "api.undo": "mark",
    "api.redo": "mark",
    "finding.refine": "refine",
    "api.refine": "refine",
}
"""What the addresses are counted as that do the work users wait for."""
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

routes = Blueprint("metrics", __name__)


class Metrics:
    """The numbers of one app. desk: whose catalog and sessions are told."""

    def __init__(self, desk: Desk):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_Served(desk))
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
        """Count the request that was answered. Addresses that do not exist are one route."""
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
    """What is served at the moment it is asked."""

    def __init__(self, desk: Desk):
        self._desk = desk

    def collect(self) -> Iterable[Metric]:
        catalog = self._desk.catalog
        yield GaugeMetricFamily("gpubranches_catalog_items", "Items of the catalog.", catalog.n)
        yield GaugeMetricFamily("gpubranches_catalog_deleted_items", "Deleted items still on disk.", catalog.n_deleted)
        yield GaugeMetricFamily("gpubranches_catalog_generation", "Commits of the catalog.", catalog.generation)
        yield GaugeMetricFamily("gpubranches_sessions_open", "Sessions in memory.", len(self._desk.sessions))


def install(app: Flask, desk: Desk) -> None:
    """Count all requests of an app from now on."""
    counted = Metrics(desk)
    app.extensions["gpubranches.metrics"] = counted
    app.before_request(_begin)
    app.after_request(counted.count)


def _begin() -> None:
    g.began_s = time.perf_counter()


@routes.get("/metrics")
def metrics() -> Response:
    """Tell all numbers in the text format of Prometheus."""
    counted = cast(Metrics, current_app.extensions["gpubranches.metrics"])
    return Response(generate_latest(counted.registry), content_type=CONTENT_TYPE_LATEST)
