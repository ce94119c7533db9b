"""HTTP endpoints of recall."""

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
    """Return 200 if every configured dependency responds, else 503 with the reason."""
    dependencies = {"database": store.answers}
    dependencies |= {"redis": cache().answers} if cache() else {}
    dependencies |= {"ai": model().answers} if model() else {}
    for name, answers in dependencies.items():
        try:
            answers()
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is the reason
            # First line only: the rest of a SQLAlchemy error is the statement and a link.
            said = (str(failure).strip() or type(failure).__name__).splitlines()[0]
            return jsonify(ready=False, reason=f"{name}: {said[:200]}"), HTTPStatus.SERVICE_UNAVAILABLE
    return jsonify(ready=True, checks=dict.fromkeys(dependencies, "ok")), HTTPStatus.OK


@api.get("/version")
def version() -> Response:
    """Service name, release tag, color, and the tag that the image was built as."""
    told: Settings = current_app.config["RECALL"]
    return jsonify(service="recall", version=told.tag, color=told.color, built_as=told.built_as)


@api.get("/memories")
def memories() -> Response:
    """The 100 newest memories."""
    newest = db.session.query(Memory).order_by(Memory.id.desc()).limit(100)
    return jsonify(memories=[memory.public() for memory in newest])


@api.post("/memories")
def remember() -> tuple[Response, int]:
    """Store one text and return it with its id."""
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
    """One memory, from the cache if present."""
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
    """Summary of a memory by the AI endpoint."""
    stored = db.session.get(Memory, key)
    if stored is None or not model():
        abort(HTTPStatus.NOT_FOUND, f"no memory {key}, or no model")
    return jsonify(id=key, summary=model().complete(f"Summarize: {stored.text}"))


@api.get("/slow")
def slow() -> Response:
    """Respond after *seconds*: a request that is in flight while the proxy switches."""
    seconds = _seconds()
    time.sleep(seconds)
    return jsonify(slept=seconds)


@api.get("/stream")
def stream() -> Response:
    """Stream one JSON line per second."""
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
    # "not <=" rather than ">" also rejects nan.
    if not 0 <= wanted <= LONGEST_S:
        abort(HTTPStatus.BAD_REQUEST, f"seconds must be between 0 and {LONGEST_S:g}")
    return wanted


def _cached(memory: dict[str, Any], how: str) -> Response:
    response = jsonify(memory)
    response.headers["X-Cache"] = how
    return response


def cache() -> Cache:
    """The cache of the current app."""
    return current_app.extensions["recall_cache"]  # type: ignore[no-any-return]


def model() -> Model:
    """The AI endpoint client of the current app."""
    return current_app.extensions["recall_model"]  # type: ignore[no-any-return]
