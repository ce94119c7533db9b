"""Request observation: log line, metrics, and response headers with release and color."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from .settings import Settings

REQUESTS = Counter("http_requests_total", "Requests answered", ["method", "path", "status"])
SECONDS = Histogram("http_request_duration_seconds", "Time to answer", ["method", "path"])
INFO = Gauge("recall_info", "Which release answers", ["version", "color"])

log = logging.getLogger("recall.request")


def watch(app: Flask, settings: Settings) -> None:
    """Observe every request of *app* and publish the metrics at ``/metrics``."""
    INFO.labels(settings.tag, settings.color).set(1)
    # Register before the defects, so that the recorded response is the one that was sent.
    app.before_request(_begin)
    app.after_request(lambda response: _end(response, settings))
    app.add_url_rule("/metrics", view_func=metrics)


def metrics() -> Response:
    """The metrics in the Prometheus text format."""
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _begin() -> None:
    g.began = time.monotonic()


def _end(response: Response, settings: Settings) -> Response:
    path = request.url_rule.rule if request.url_rule else "unknown"
    seconds = time.monotonic() - g.get("began", time.monotonic())
    REQUESTS.labels(request.method, path, response.status_code).inc()
    SECONDS.labels(request.method, path).observe(seconds)
    response.headers["X-Color"] = settings.color
    response.headers["X-Release"] = settings.tag
    # Log a probe only if it fails; one line per second would be most of the log.
    if request.path not in ("/readyz", "/metrics") or response.status_code != HTTPStatus.OK:
        _say(response, seconds)
    return response


def _say(response: Response, seconds: float) -> None:
    level = logging.INFO
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # A 503 from /readyz is an expected response, not an application error.
        level = logging.WARNING if request.path == "/readyz" else logging.ERROR
    fields = {
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "ms": round(seconds * 1000, 1),
    }
    log.log(level, "request", extra={"fields": fields})
