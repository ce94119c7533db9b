"""A small shop, 30 changes of its behavior, and 20 ways in which a healthy service answers differently each time.

The league was frozen before any rule of `cutover/gate/comparison.py` was tuned by it. Cases with an odd number are held
out: rules may be tuned by the even ones only.
"""

# ruff: noqa: S311  # nothing here is secret
from __future__ import annotations

import hashlib
import itertools
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.compare_openapi import refused
from cutover.core.text import stamp
from cutover.gate.compare_requests import CompareRequest
from tests.helpers.http_service import Answer, Asked, serving

ITEMS = [
    {
        "id": n, "name": f"item {n}", "price": round(n * 1.2345, 3), "currency": "EUR", "active": n % 3 > 0,
        "state": "open" if n % 2 else "sold", "tags": [f"t{n % 5}", f"t{n % 7}", "all"],
        "created": f"2025-03-{1 + n % 28:02}T10:{n:02}:00Z", "owner": {"id": n % 4, "name": f"user {n % 4}"},
        "stock": {"here": n, "there": 2 * n},
    }
    for n in range(1, 41)
]  # fmt: skip
REQUESTS = [
    *(CompareRequest("GET", f"/items/{n}") for n in range(1, 44)),
    *(CompareRequest("GET", f"/items?page={n}") for n in range(1, 5)),
    CompareRequest("GET", "/items"),
    *(CompareRequest("GET", f"/search?q={n}") for n in range(10, 40)),
    *(CompareRequest("GET", f"/users/{n}") for n in range(6)),
    *(
        CompareRequest("GET", path)
        for path in ("/about", "/export.csv", "/feed.xml", "/login", "/old", "/stats")
    ),
    CompareRequest("HEAD", "/about"),
]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the shop."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    wait_s: float = 0.0

    def with_json(self, change: Callable[[Any], Any]) -> Reply:
        """The reply with another JSON body; unchanged if it has none."""
        if self.headers.get("content-type") != "application/json":
            return self
        return replace(self, body=json.dumps(change(json.loads(self.body))).encode())

    def with_text(self, old: str, new: str) -> Reply:
        """The reply with *new* in place of *old*."""
        return replace(self, body=self.body.replace(old.encode(), new.encode()))

    def with_headers(self, **given: str) -> Reply:
        """The reply with these headers, _ for -; an empty value removes one."""
        names = {name.replace("_", "-"): value for name, value in given.items()}
        kept = {name: value for name, value in {**self.headers, **names}.items() if value}
        return replace(self, headers=kept)


Shop = Callable[[str, Mapping[str, str]], Reply]
Change = Callable[[str, Mapping[str, str], Reply], Reply]
COMMON = {"cache-control": "max-age=60", "vary": "accept", "access-control-allow-origin": "*"}


def as_json(value: Any, status: int = 200) -> Reply:
    """A reply with JSON."""
    return Reply(status, COMMON | {"content-type": "application/json"}, json.dumps(value).encode())


def as_text(kind: str, text: str) -> Reply:
    """A reply with text of the content type *kind*."""
    return Reply(200, COMMON | {"content-type": kind}, text.encode())


def shop(path: str, query: Mapping[str, str]) -> Reply:
    """What the shop answers."""
    parts = path.strip("/").split("/")
    if parts[0] == "items" and len(parts) == 2:
        found = next((each for each in ITEMS if str(each["id"]) == parts[1]), None)
        return as_json(found) if found else as_json({"error": "no such item"}, 404)
    if path == "/items":
        page = int(query.get("page", "1"))
        return as_json({"page": page, "items": ITEMS[10 * (page - 1) : 10 * page], "total": len(ITEMS)})
    if path == "/search":
        hits = [each for each in ITEMS if query.get("q", "") in f"{each['price']}"]
        return as_json({"query": query.get("q"), "hits": [each["id"] for each in hits], "exact": False})
    if parts[0] == "users":
        return as_json(
            {"id": int(parts[1]), "name": f"user {parts[1]}", "email": None, "since": "2024-01-05"}
        )
    if path == "/about":
        links = "".join(f'<li><a href="/help/{n}">help {n}</a></li>' for n in range(4))
        return as_text(
            "text/html; charset=utf-8",
            f"<html><body><nav id='top'><ul>{links}</ul></nav><h1>Shop</h1><p>Open from 9 to 5</p></body></html>",
        )
    if path == "/export.csv":
        rows = "".join(f"{each['id']};{each['name']};{each['price']}\n" for each in ITEMS)
        return as_text("text/csv; charset=utf-8", f"id;name;price\n{rows}")
    if path == "/feed.xml":
        return as_text("application/xml", f"<feed>{''.join(f'<e>{n}</e>' for n in range(9))}</feed>")
    if path in {"/login", "/old"}:
        return Reply(302, COMMON | {"location": "/signin?next=/" if path == "/login" else "/items"}, b"")
    if path == "/stats":
        return as_json({"items": len(ITEMS), "open": 20}).with_headers(set_cookie="session=1; HttpOnly")
    return as_json({"error": "not found"}, 404)


# --- changes ---------------------------------------------------------------------------------------------------------
def on_item(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """Change each single item."""

    def act(path: str, _query: Mapping[str, str], reply: Reply) -> Reply:
        return reply.with_json(change) if path.startswith("/items/") and reply.status == 200 else reply

    return act


def on(path: str, change: Callable[[Reply], Reply]) -> Change:
    """Change the answers to *path*."""
    return lambda at, _query, reply: change(reply) if at == path else reply


def on_list(change: Callable[[list[Any]], list[Any]]) -> Change:
    """Change the list of items."""
    return on("/items", lambda reply: reply.with_json(lambda body: body | {"items": change(body["items"])}))


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Remove fields."""
    return lambda item: {key: value for key, value in item.items() if key not in names}


def off_by_one(path: str, query: Mapping[str, str], reply: Reply) -> Reply:
    """Page 2 is page 3."""
    return (
        shop(path, {"page": str(int(query["page"]) + 1)}) if path == "/items" and "page" in query else reply
    )


def rare(status: int) -> Change:
    """One item of 40 is answered otherwise."""
    return lambda path, _query, reply: as_json({"error": "x"}, status) if path == "/items/17" else reply


def slower(path: str, _query: Mapping[str, str], reply: Reply) -> Reply:
    """Searches take 60 ms longer."""
    return replace(reply, wait_s=0.06) if path == "/search" else reply


CHANGES: dict[str, Change] = {
    "a field is gone": on_item(without("tags")),
    "a field is null": on_item(lambda item: item | {"owner": None}),
    "a number is a text": on_item(lambda item: item | {"price": str(item["price"])}),
    "another order": on_list(lambda rows: rows[::-1]),
    "rounded": on_item(lambda item: item | {"price": round(item["price"], 1)}),
    "another time zone": on_item(lambda item: item | {"created": item["created"].replace("T10", "T19")}),
    "the next page": off_by_one,
    "another charset": on(
        "/about", lambda reply: reply.with_headers(content_type="text/html; charset=latin-1")
    ),
    "a header is gone": on("/items", lambda reply: reply.with_headers(access_control_allow_origin="")),
    "no cache": on("/items", lambda reply: reply.with_headers(cache_control="no-store")),
    "another redirect": on("/login", lambda reply: reply.with_headers(location="/signin?next=/home")),
    "a slower route": slower,
    "a smaller page": on_list(lambda rows: rows[:8]),
    "404 for a rare item": rare(404),
    "a field that should not be there": on_item(lambda item: item | {"password_hash": "x"}),
    "500 for a rare item": rare(500),
    "nothing found": on("/search", lambda reply: reply.with_json(lambda body: body | {"hits": []})),
    "another case": on_item(lambda item: item | {"state": item["state"].upper()}),
    "the opposite": on_item(lambda item: item | {"active": not item["active"]}),
    "an element is gone": on("/about", lambda reply: reply.with_text("<h1>Shop</h1>", "")),
    "another link": on("/about", lambda reply: reply.with_text("/help/3", "/support/3")),
    "columns swapped": on("/export.csv", lambda reply: reply.with_text("id;name;price", "id;price;name")),
    "another XML": on("/feed.xml", lambda reply: reply.with_text("<feed>", '<feed xmlns="x">')),
    "no JSON any more": on("/stats", lambda reply: reply.with_headers(content_type="text/plain")),
    "another cookie": on("/stats", lambda reply: reply.with_headers(set_cookie="sid=1; HttpOnly")),
    "a nested field has another name": on_item(lambda item: item | {"stock": {"here": 1, "away": 2}}),
    "another form of time": on_item(lambda item: item | {"created": item["created"].replace("Z", "+00:00")}),
    "another currency": on_item(lambda item: item | {"currency": "USD"}),
    "an item twice": on_list(lambda rows: [*rows, *rows[:1]]),
    "another status": on("/stats", lambda reply: replace(reply, status=202)),
}


# --- noise -----------------------------------------------------------------------------------------------------------
Noise = Callable[[], Change]
"""Makes the noise of one process: two releases have one each."""


def field_of(value: Callable[[], Any]) -> Noise:
    """A field of each item with a value that is made anew for each answer."""
    return lambda: on_item(lambda item: item | {"extra": value()})


def of_process(value: Callable[[], Any]) -> Noise:
    """A field of each item with a value that each process has made once."""

    def begin() -> Change:
        mine = value()
        return on_item(lambda item: item | {"extra": mine})

    return begin


def counter() -> Change:
    """How many answers there were."""
    turn = itertools.count(random.randrange(1000))
    return on_item(lambda item: item | {"served": next(turn)})


def limited() -> Change:
    """Each fourth request is one too many."""
    turn = itertools.count(random.randrange(4))
    return lambda _path, _query, reply: as_json({"error": "slow down"}, 429) if next(turn) % 4 == 0 else reply


def shuffled(rows: list[Any]) -> list[Any]:
    """The same in another order."""
    return random.sample(rows, len(rows))


NOISY: dict[str, Noise] = {
    "an ID of the request": field_of(lambda: str(uuid.uuid4())),
    "the time": field_of(lambda: stamp(time.time())),
    "a token": field_of(lambda: hashlib.sha256(random.randbytes(8)).hexdigest()),
    "a shuffled set": lambda: on_item(lambda item: item | {"tags": shuffled(item["tags"])}),
    "a flag thrown anew": field_of(lambda: random.choice(("a", "b"))),
    "a counter": counter,
    "a rate limit": limited,
    "a random ETag": lambda: lambda _p, _q, reply: reply.with_headers(etag=f'"{random.random()}"'),
    "a random session": lambda: on("/stats", lambda reply: reply.with_headers(set_cookie=f"session={random.random()}")),
    "jitter": lambda: lambda _p, _q, reply: replace(reply, wait_s=random.expovariate(200.0)),
    "the uptime": field_of(lambda: round(time.monotonic(), 3)),
    "an ID of the process": of_process(lambda: str(uuid.uuid4())),
    "a container": of_process(lambda: random.randbytes(6).hex()),
    "the start of the process": of_process(lambda: stamp(time.time() - random.random() * 60)),
    "a shuffled list of objects": lambda: on_list(shuffled),
    "a nonce in a page": lambda: on("/about", lambda reply: reply.with_text("<h1>", f'<meta name="csrf" content="{uuid.uuid4()}"><h1>')),
    "an optional field": lambda: on_item(lambda item: item | ({"hint": "x"} if random.random() < 0.5 else {})),
    "a measured value": field_of(lambda: round(random.gauss(20, 1), 2)),
    "milliseconds": field_of(lambda: int(time.time() * 1000)),
    "text that rotates": lambda: on("/about", lambda reply: reply.with_text("Open from 9 to 5", f"Tip {random.randrange(99)}")),
}  # fmt: skip


@contextmanager
def served(*changes: Change, heard: Callable[[Asked], None] = lambda _: None) -> Iterator[str]:
    """The URL of a shop with *changes*, in the order in which they are made; *heard* gets each request."""

    def answer(asked: Asked) -> Answer:
        heard(asked)
        parts = urlsplit(asked.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if (other := refused(asked, parts.path, query)) is not None:
            return other
        reply = shop(parts.path, query)
        for change in changes:
            reply = change(parts.path, query, reply)
        time.sleep(reply.wait_s)  # the time that the shop takes
        return Answer(reply.status, reply.headers, reply.body)

    with serving(answer) as service:
        yield service.url
