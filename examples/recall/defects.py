"""Defects of a release, one function each. ``DEFECT`` in the image selects one.

``examples/catalogue.py`` lists the same names with their visible symptoms.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, redirect, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .settings import Settings

log = logging.getLogger("recall")
PLANTS: dict[str, Callable[[Flask, Settings], None]] = {}


def plant(app: Flask, told: Settings) -> None:
    """Activate the defect of the image in *app*; do nothing without one or if it is not a defect of the code."""
    if told.defect in PLANTS:
        PLANTS[told.defect](app, told)


def defect(function: Callable[[Flask, Settings], None]) -> Callable[[Flask, Settings], None]:
    """Register *function* under its name, with dashes."""
    PLANTS[function.__name__.replace("_", "-")] = function
    return function


# --- wrong responses


@defect
def wrong_version(app: Flask, _told: Settings) -> None:
    """/version returns the tag of an earlier build."""
    _instead(app, "/version", lambda: jsonify(service="recall", version="sha-0000000"))


@defect
def wrong_service(app: Flask, told: Settings) -> None:
    """/version returns the name of another service."""
    _instead(app, "/version", lambda: jsonify(service="reminder", version=told.tag))


@defect
def ready_string(app: Flask, _told: Settings) -> None:
    """/readyz returns "true" as a string instead of a boolean."""
    _instead(app, "/readyz", lambda: jsonify(ready="true"))


@defect
def ready_redirect(app: Flask, _told: Settings) -> None:
    """/readyz redirects, as behind a login page."""
    _instead(app, "/readyz", lambda: redirect("/version"))


@defect
def ready_503(app: Flask, _told: Settings) -> None:
    """/readyz returns 503, while the HEALTHCHECK requests a path that always returns 200."""
    _instead(app, "/readyz", lambda: (jsonify(ready=False, reason="migrations are pending"), 503))


@defect
def never_ready(app: Flask, _told: Settings) -> None:
    """/readyz returns 503 forever, and the HEALTHCHECK fails."""
    _instead(app, "/readyz", lambda: (jsonify(ready=False, reason="still warming up"), 503))


@defect
def wrong_status(app: Flask, _told: Settings) -> None:
    """/memories returns 404."""
    _instead(app, "/memories", lambda: (jsonify(error="not found"), 404))


@defect
def wrong_json(app: Flask, _told: Settings) -> None:
    """/memories returns its list under another key."""
    _instead(app, "/memories", lambda: jsonify(items=[]))


@defect
def drops_field(app: Flask, told: Settings) -> None:
    """/version lacks a field that no check of the gate asks for."""
    _instead(app, "/version", lambda: jsonify(service="recall", version=told.tag, color=told.color))


@defect
def rare_error(app: Flask, _told: Settings) -> None:
    """/slow, which no check of the gate asks for, returns 500."""
    _instead(app, "/slow", _broken)


@defect
def slow_endpoint(app: Flask, _told: Settings) -> None:
    """/memories takes 2 s longer."""
    _before(app, lambda: time.sleep(2) if request.path.startswith("/memories") else None)


@defect
def hangs(app: Flask, _told: Settings) -> None:
    """Accept every connection and never respond."""
    _before(app, threading.Event().wait)


@defect
def half_errors(app: Flask, _told: Settings) -> None:
    """Every second user request returns 500; readiness stays good."""
    turn = itertools.count()
    app.before_request(lambda: _broken() if _for_users() and next(turn) % 2 == 0 else None)


@defect
def breaks_later(app: Flask, told: Settings) -> None:
    """Return 500 for every request after *defect_seconds*, or as soon as /tmp/break exists."""
    end = time.monotonic() + told.defect_seconds

    def answer() -> tuple[Response, int] | None:
        bad = time.monotonic() > end or Path("/tmp/break").exists()
        return _broken() if bad and request.path != "/metrics" else None

    app.before_request(answer)


# --- processes that exit


@defect
def crash_at_start(_app: Flask, _told: Settings) -> None:
    """Fail with an import error at start."""
    raise RuntimeError("no module named 'recall.plugins'")


@defect
def prints_environment(_app: Flask, _told: Settings) -> None:
    """Log every environment variable, then fail at start."""
    for name, value in sorted(os.environ.items()):
        log.error("cannot start with %s=%s", name, value)
        sys.stderr.write(f"{name}={value}\n")
    raise RuntimeError(f"cannot reach {os.environ.get('DATABASE_URL')}")


@defect
def crash_loop_late(_app: Flask, _told: Settings) -> None:
    """Exit 3 s after every start."""
    threading.Timer(3, _die).start()


@defect
def dies_after_healthy(app: Flask, _told: Settings) -> None:
    """Exit 0.5 s after the first successful readiness probe."""
    once = iter([None])

    def look(response: Response) -> Response:
        if request.path == "/readyz" and response.status_code == HTTPStatus.OK and next(once, 0) is None:
            threading.Timer(0.5, _die).start()
        return response

    app.after_request(look)


# --- log output


@defect
def error_spike(app: Flask, _told: Settings) -> None:
    """Log 20 errors at start and one error per request, while all responses are good."""
    for number in range(20):
        log.error("cannot write audit record %d: quota exceeded", number)
    _before(app, lambda: log.error("cannot write audit record: quota exceeded"))


@defect
def traceback_log(app: Flask, _told: Settings) -> None:
    """Write tracebacks to stderr, outside the structured log and without a level."""

    def complain() -> None:
        try:
            {}["audit"]
        except KeyError:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()

    complain()
    _before(app, complain)


@defect
def new_error(_app: Flask, _told: Settings) -> None:
    """Log an error with a new signature every 3 s."""
    words = ("orders", "people", "places", "letters", "prices", "routes", "images", "notes")
    _every(3, (lambda w=word: log.error("lost the lease on shard %s", w) for word in itertools.cycle(words)))


# --- resource usage


@defect
def leak(_app: Flask, _told: Settings) -> None:
    """Grow by 1 MB per second."""
    kept: list[bytes] = []
    _every(1, itertools.repeat(lambda: kept.append(os.urandom(1 << 20))))


@defect
def cpu_burn(_app: Flask, _told: Settings) -> None:
    """Keep one core busy, while all responses are good."""
    subprocess.Popen([sys.executable, "-c", "while True: pass"])


# --- good releases that look unusual: reverting one of these is a false positive


@defect
def slow_start(_app: Flask, _told: Settings) -> None:
    """Take 6 s to start, within the start period."""
    time.sleep(6)


@defect
def chatty(app: Flask, _told: Settings) -> None:
    """Log INFO lines that contain the word "error"."""
    _before(app, lambda: log.info("error budget: 0 errors, error rate 0.0"))
    _every(1, itertools.repeat(lambda: log.info("no error since start; last error: none; failed: 0")))


@defect
def dropped_probe(app: Flask, _told: Settings) -> None:
    """Close the connection of the first external request without a response."""
    once = iter([None])

    def drop() -> None:
        if not _own_probe() and next(once, 0) is None:
            request.environ["gunicorn.socket"].shutdown(2)

    _before(app, drop)


@defect
def warm_up(app: Flask, _told: Settings) -> None:
    """Delay the first ten external requests by 0.3 s."""
    left = iter(range(10))
    _before(app, lambda: time.sleep(0.3) if not _own_probe() and next(left, None) is not None else None)


@defect
def baseline_errors(_app: Flask, _told: Settings) -> None:
    """Log the same error every 12 s, as the previous release does."""
    _every(12, itertools.repeat(lambda: log.error("feed timed out after %d ms", 3000)))


# --- helpers


def _instead(app: Flask, path: str, answer: Callable[[], Any]) -> None:
    app.before_request(lambda: answer() if request.path == path else None)


def _before(app: Flask, act: Callable[[], Any]) -> None:
    """Call *act* before each request and respond as usual."""

    def first() -> None:
        act()

    app.before_request(first)


def _broken() -> tuple[Response, int]:
    log.error("cannot answer: index out of range")
    return jsonify(error="internal error"), 500


def _for_users() -> bool:
    return request.path not in ("/readyz", "/version", "/metrics")


def _own_probe() -> bool:
    """Whether the request is the image's HEALTHCHECK, which must not count as an external request."""
    return request.user_agent.string == "healthcheck"


def _every(seconds: float, acts: Iterator[Callable[[], Any]]) -> None:
    def run() -> None:
        for act in acts:
            act()
            time.sleep(seconds)

    threading.Thread(target=run, daemon=True).start()


def _die() -> None:
    """Kill the gunicorn master, then this worker: the master first, or it would start another worker."""
    log.critical("segmentation fault in libvector.so")
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
