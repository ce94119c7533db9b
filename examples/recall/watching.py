"""What a request leaves behind: a log line, a count, a duration, and headers that say who answered."""

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
    """Observe each request of *app*, and publish the numbers under ``/metrics``."""
    INFO.labels(settings.tag, settings.color).set(1)
    # What was observed last must be what was sent, so planted defects are registered after this.
    app.before_request(_begin)
    app.after_request(lambda response: _end(response, settings))
    app.add_url_rule("/metrics", view_func=metrics)


def metrics() -> Response:
    """The numbers in Prometheus' text form."""
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
    # A probe each second would be most of the log; it speaks only when it is bad.
    if request.path not in ("/readyz", "/metrics") or response.status_code != HTTPStatus.OK:
        _say(response, seconds)
    return response


def _say(response: Response, seconds: float) -> None:
    level = logging.INFO
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # Not being ready is an answer, not an error of ours.
        level = logging.WARNING if request.path == "/readyz" else logging.ERROR
    fields = {
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "ms": round(seconds * 1000, 1),
    }
    log.log(level, "request", extra={"fields": fields})
