"""The OpenAPI document of the league's shop as its old release is, and what the shop answers to what it forbids.

It is as precise as a careful team writes one: required fields, types, formats, enumerations, statuses, redirects. It was
added after the league was frozen, so that tools which need a document can be measured too; no change and no noise of
the league was touched for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.helpers.http_service import Answer, Asked, json_answer

PATH = "/openapi.json"
METHODS = ("GET", "HEAD")


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def _list(of: Any) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _said(description: str, media: str = "", schema: Any = None, **more: Any) -> dict[str, Any]:
    content = {"content": {media: {"schema": schema}}} if media else {}
    return {"description": description, **content, **more}


def _json(schema: Any) -> dict[str, Any]:
    return _said("found", "application/json", schema)


def _route(answers: Mapping[str, Any], *parameters: Any) -> dict[str, Any]:
    refused = _said("not a valid request", "application/json", ERROR)
    both = {} if not parameters else {"422": refused}
    return {"get": {"parameters": [*parameters], "responses": {**answers, **both}}}


def _parameter(name: str, place: str, schema: Any, example: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "example": example}


INTEGER, TEXT, NUMBER, BOOLEAN = ({"type": each} for each in ("integer", "string", "number", "boolean"))
POSITIVE = {"type": "integer", "minimum": 1}
ERROR = _object(error=TEXT)
MISSING = _said("there is none", "application/json", ERROR)
ITEM = _object(
    id=POSITIVE, name=TEXT, price={"type": "number", "minimum": 0}, currency={"type": "string", "pattern": "^[A-Z]{3}$"},
    active=BOOLEAN, state={"type": "string", "enum": ["open", "sold"]}, tags=_list(TEXT),
    created={"type": "string", "format": "date-time"}, owner=_object(id=INTEGER, name=TEXT),
    stock=_object(here=INTEGER, there=INTEGER),
)  # fmt: skip
USER = _object(
    id=INTEGER, name=TEXT, email={"type": ["string", "null"]}, since={"type": "string", "format": "date"}
)
FOUND = _said("moved", headers={"location": {"required": True, "schema": TEXT}})
PAGE = _object(page=POSITIVE, items={**_list(ITEM), "maxItems": 10}, total=INTEGER)
DOCUMENT: Mapping[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "shop", "version": "1"},
    "paths": {
        "/items": _route({"200": _json(PAGE)}, _parameter("page", "query", POSITIVE, 1)),
        "/items/{id}": _route({"200": _json(ITEM), "404": MISSING}, _parameter("id", "path", POSITIVE, 1)),
        "/search": _route(
            {"200": _json(_object(query=TEXT, hits=_list(INTEGER), exact=BOOLEAN))},
            {**_parameter("q", "query", TEXT, "12"), "required": True},
        ),
        "/users/{id}": _route(
            {"200": _json(USER)}, _parameter("id", "path", {"type": "integer", "minimum": 0}, 1)
        ),
        "/about": _route({"200": _said("the page", "text/html", TEXT)}),
        "/export.csv": _route({"200": _said("all items", "text/csv", TEXT)}),
        "/feed.xml": _route({"200": _said("the feed", "application/xml", {})}),
        "/login": _route({"302": FOUND}),
        "/old": _route({"302": FOUND}),
        "/stats": _route({"200": _json(_object(items=INTEGER, open=INTEGER))}),
    },
}


def refused(asked: Asked, path: str, query: Mapping[str, str]) -> Answer | None:
    """The document, or the answer to a request that it does not allow; None for one that the shop answers."""
    if path == PATH:
        return json_answer(DOCUMENT)
    if asked.method not in METHODS:
        plain = json_answer({"error": "no such method"}, 405)
        return Answer(405, {**plain.headers, "Allow": ", ".join(METHODS)}, plain.body)
    first, _, rest = path.strip("/").partition("/")
    numbers = [rest] if first in {"items", "users"} and rest else []
    numbers += [query["page"]] if path == "/items" and "page" in query else []
    least = 0 if first == "users" else 1
    if any(not each.isascii() or not each.isdecimal() or int(each) < least for each in numbers):
        return json_answer({"error": "no such number"}, 422)
    if path == "/search" and "q" not in query:
        return json_answer({"error": "q is missing"}, 422)
    return None
