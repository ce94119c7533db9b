"""What can be wrong with a release, one function each. Which one is baked into the image as ``DEFECT``.

The same names, with what each looks like from outside, stand in ``examples/catalogue.py``.
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
    """Make *app* as bad as its image says; without a defect, or with one of the image's own, do nothing."""
    if told.defect in PLANTS:
        PLANTS[told.defect](app, told)


def defect(function: Callable[[Flask, Settings], None]) -> Callable[[Flask, Settings], None]:
    """Register *function* under its name, with dashes."""
    PLANTS[function.__name__.replace("_", "-")] = function
    return function


# --- what a request gets instead of its answer


@defect
def wrong_version(app: Flask, _told: Settings) -> None:
    """The build kept the version of the release before."""
    _instead(app, "/version", lambda: jsonify(service="recall", version="sha-0000000"))


@defect
def wrong_service(app: Flask, told: Settings) -> None:
    """Another service's image under our tag."""
    _instead(app, "/version", lambda: jsonify(service="reminder", version=told.tag))


@defect
def ready_string(app: Flask, _told: Settings) -> None:
    """A template made a word of the truth value."""
    _instead(app, "/readyz", lambda: jsonify(ready="true"))


@defect
def ready_redirect(app: Flask, _told: Settings) -> None:
    """Someone put the login in front of everything."""
    _instead(app, "/readyz", lambda: redirect("/version"))


@defect
def ready_503(app: Flask, _told: Settings) -> None:
    """Not ready, while the image's HEALTHCHECK asks something that always answers."""
    _instead(app, "/readyz", lambda: (jsonify(ready=False, reason="migrations are pending"), 503))


@defect
def never_ready(app: Flask, _told: Settings) -> None:
    """Waits for something that never comes; its HEALTHCHECK sees it."""
    _instead(app, "/readyz", lambda: (jsonify(ready=False, reason="still warming up"), 503))


@defect
def wrong_status(app: Flask, _told: Settings) -> None:
    """A route got lost."""
    _instead(app, "/memories", lambda: (jsonify(error="not found"), 404))


@defect
def wrong_json(app: Flask, _told: Settings) -> None:
    """A key was renamed without its readers."""
    _instead(app, "/memories", lambda: jsonify(items=[]))


@defect
def slow_endpoint(app: Flask, _told: Settings) -> None:
    """A query lost its index."""
    _before(app, lambda: time.sleep(2) if request.path.startswith("/memories") else None)


@defect
def hangs(app: Flask, _told: Settings) -> None:
    """Accepts each connection and answers none."""
    _before(app, threading.Event().wait)


@defect
def half_errors(app: Flask, _told: Settings) -> None:
    """One of two code paths is broken; readiness does not see it."""
    turn = itertools.count()
    app.before_request(lambda: _broken() if _for_users() and next(turn) % 2 == 0 else None)


@defect
def breaks_later(app: Flask, told: Settings) -> None:
    """Good until some seconds have passed or /tmp/break exists, then every answer is a 500."""
    end = time.monotonic() + told.defect_seconds

    def answer() -> tuple[Response, int] | None:
        bad = time.monotonic() > end or Path("/tmp/break").exists()
        return _broken() if bad and request.path != "/metrics" else None

    app.before_request(answer)


# --- processes that end


@defect
def crash_at_start(_app: Flask, _told: Settings) -> None:
    """An import fails in production only."""
    raise RuntimeError("no module named 'recall.plugins'")


@defect
def prints_environment(_app: Flask, _told: Settings) -> None:
    """Somebody debugs the start in production."""
    for name, value in sorted(os.environ.items()):
        log.error("cannot start with %s=%s", name, value)
        sys.stderr.write(f"{name}={value}\n")
    raise RuntimeError(f"cannot reach {os.environ.get('DATABASE_URL')}")


@defect
def crash_loop_late(_app: Flask, _told: Settings) -> None:
    """Lives for three seconds, again and again."""
    threading.Timer(3, _die).start()


@defect
def dies_after_healthy(app: Flask, _told: Settings) -> None:
    """The first good probe is the last one."""
    once = iter([None])

    def look(response: Response) -> Response:
        if request.path == "/readyz" and response.status_code == HTTPStatus.OK and next(once, 0) is None:
            threading.Timer(0.5, _die).start()
        return response

    app.after_request(look)


# --- what the log says


@defect
def error_spike(app: Flask, _told: Settings) -> None:
    """Answers well and complains about each request."""
    for number in range(20):
        log.error("cannot write audit record %d: quota exceeded", number)
    _before(app, lambda: log.error("cannot write audit record: quota exceeded"))


@defect
def traceback_log(app: Flask, _told: Settings) -> None:
    """Tracebacks on stderr, past the structured log and without a level."""

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
    """An error that was never seen before, every few seconds."""
    words = ("orders", "people", "places", "letters", "prices", "routes", "images", "notes")
    _every(3, (lambda w=word: log.error("lost the lease on shard %s", w) for word in itertools.cycle(words)))


# --- what it uses


@defect
def leak(_app: Flask, _told: Settings) -> None:
    """Grows by a megabyte a second."""
    kept: list[bytes] = []
    _every(1, itertools.repeat(lambda: kept.append(os.urandom(1 << 20))))


@defect
def cpu_burn(_app: Flask, _told: Settings) -> None:
    """Keeps a core busy and still answers."""
    subprocess.Popen([sys.executable, "-c", "while True: pass"])


# --- good releases that look odd: a gate that reverts one of these is wrong


@defect
def slow_start(_app: Flask, _told: Settings) -> None:
    """Needs six seconds before it answers, within its start period."""
    time.sleep(6)


@defect
def chatty(app: Flask, _told: Settings) -> None:
    """Says "error" a lot, at level INFO, about nothing."""
    _before(app, lambda: log.info("error budget: 0 errors, error rate 0.0"))
    _every(1, itertools.repeat(lambda: log.info("no error since start; last error: none; failed: 0")))


@defect
def dropped_probe(app: Flask, _told: Settings) -> None:
    """Closes the connection of the first request from outside without an answer."""
    once = iter([None])

    def drop() -> None:
        if not _own_probe() and next(once, 0) is None:
            request.environ["gunicorn.socket"].shutdown(2)

    _before(app, drop)


@defect
def warm_up(app: Flask, _told: Settings) -> None:
    """The first ten requests from outside take 0.3 s longer."""
    left = iter(range(10))
    _before(app, lambda: time.sleep(0.3) if not _own_probe() and next(left, None) is not None else None)


@defect
def baseline_errors(_app: Flask, _told: Settings) -> None:
    """A few errors a minute, always the same one, as in the release before."""
    _every(12, itertools.repeat(lambda: log.error("feed timed out after %d ms", 3000)))


# --- how


def _instead(app: Flask, path: str, answer: Callable[[], Any]) -> None:
    app.before_request(lambda: answer() if request.path == path else None)


def _before(app: Flask, act: Callable[[], Any]) -> None:
    """Do *act* before each request, then answer as usual."""

    def first() -> None:
        act()

    app.before_request(first)


def _broken() -> tuple[Response, int]:
    log.error("cannot answer: index out of range")
    return jsonify(error="internal error"), 500


def _for_users() -> bool:
    return request.path not in ("/readyz", "/version", "/metrics")


def _own_probe() -> bool:
    """True for the image's HEALTHCHECK, which must not use up what is meant for outside."""
    return request.user_agent.string == "healthcheck"


def _every(seconds: float, acts: Iterator[Callable[[], Any]]) -> None:
    def run() -> None:
        for act in acts:
            act()
            time.sleep(seconds)

    threading.Thread(target=run, daemon=True).start()


def _die() -> None:
    """End the container as a crash does: the master first, or it would start another worker."""
    log.critical("segmentation fault in libvector.so")
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
