"""The endpoints."""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, abort, current_app, jsonify, request, stream_with_context

from . import store
from .store import Memory, db

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .outside import Cache, Model
    from .settings import Settings

LONGEST_S = 120.0
LONGEST_TEXT = 10_000

api = Blueprint("recall", __name__)


@api.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Ready means: each configured dependency has just answered."""
    dependencies = {"database": store.answers}
    dependencies |= {"redis": cache().answers} if cache() else {}
    dependencies |= {"ai": model().answers} if model() else {}
    for name, answers in dependencies.items():
        try:
            answers()
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is the reason
            # The first line: the rest of a SQLAlchemy error is the statement and a link.
            said = (str(failure).strip() or type(failure).__name__).splitlines()[0]
            return jsonify(ready=False, reason=f"{name}: {said[:200]}"), HTTPStatus.SERVICE_UNAVAILABLE
    return jsonify(ready=True, checks=dict.fromkeys(dependencies, "ok")), HTTPStatus.OK


@api.get("/version")
def version() -> Response:
    """Who answers."""
    told: Settings = current_app.config["RECALL"]
    return jsonify(service="recall", version=told.tag, color=told.color, built_as=told.built_as)


@api.get("/memories")
def memories() -> Response:
    """The newest memories, at most a hundred."""
    newest = db.session.query(Memory).order_by(Memory.id.desc()).limit(100)
    return jsonify(memories=[memory.public() for memory in newest])


@api.post("/memories")
def remember() -> tuple[Response, int]:
    """Store one text and say under which id."""
    sent: Any = request.get_json(silent=True)
    text = sent.get("text") if isinstance(sent, dict) else None
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_TEXT:
        abort(HTTPStatus.BAD_REQUEST, f"expected JSON with a text of 1 to {LONGEST_TEXT} characters")
    memory = Memory(text=text, source=sent.get("source"))
    db.session.add(memory)
    db.session.commit()
    return jsonify(memory.public()), HTTPStatus.CREATED


@api.get("/memories/<int:key>")
def memory(key: int) -> Response:
    """One memory, from the cache when it knows it."""
    found = cache().get(key)
    if found is not None:
        return _cached(found, "hit")
    stored = db.session.get(Memory, key)
    if stored is None:
        abort(HTTPStatus.NOT_FOUND, f"no memory {key}")
    cache().put(key, stored.public())
    return _cached(stored.public(), "miss" if cache() else "none")


@api.get("/memories/<int:key>/summary")
def summary(key: int) -> Response:
    """What the model makes of a memory."""
    stored = db.session.get(Memory, key)
    if stored is None or not model():
        abort(HTTPStatus.NOT_FOUND, f"no memory {key}, or no model")
    return jsonify(id=key, summary=model().complete(f"Summarize: {stored.text}"))


@api.get("/slow")
def slow() -> Response:
    """One answer that takes its time: a request in flight while the proxy switches."""
    seconds = _seconds()
    time.sleep(seconds)
    return jsonify(slept=seconds)


@api.get("/stream")
def stream() -> Response:
    """One JSON line a second, in chunks."""
    return Response(stream_with_context(_ticks(_seconds())), content_type="application/x-ndjson")


def _ticks(seconds: float) -> Iterator[str]:
    end = time.monotonic() + seconds
    tick = 0
    while (left := end - time.monotonic()) > 0:
        yield json.dumps({"tick": tick, "left": round(left, 1)}) + "\n"
        tick += 1
        time.sleep(min(1.0, left))
    yield json.dumps({"tick": tick, "left": 0}) + "\n"


def _seconds() -> float:
    wanted = request.args.get("seconds", default=1.0, type=float)
    # "not <=" rather than ">" so that nan is refused too.
    if not 0 <= wanted <= LONGEST_S:
        abort(HTTPStatus.BAD_REQUEST, f"seconds must be between 0 and {LONGEST_S:g}")
    return wanted


def _cached(memory: dict[str, Any], how: str) -> Response:
    response = jsonify(memory)
    response.headers["X-Cache"] = how
    return response


def cache() -> Cache:
    """The cache of this app."""
    return current_app.extensions["recall_cache"]  # type: ignore[no-any-return]


def model() -> Model:
    """The AI endpoint of this app."""
    return current_app.extensions["recall_model"]  # type: ignore[no-any-return]
