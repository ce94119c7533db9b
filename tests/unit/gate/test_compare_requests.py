"""Which requests two releases are compared by: files, HAR, OpenAPI; a sample by route; no credentials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cutover.core.errors import ConfigError
from cutover.gate.compare_requests import (
    CompareRequest,
    requests_of_file,
    requests_of_openapi,
    sample_by_route,
    without_credentials,
)

SECRET = "canary-of-a-user"  # nobody's


def test_rare_routes_count_as_much_as_busy_ones() -> None:
    """The newest of each route in turn; a request that was sent often counts once."""
    busy = [CompareRequest("GET", f"/items/{n}") for n in range(100)]
    rare = [
        CompareRequest("GET", "/about"),
        CompareRequest("HEAD", "/about"),
        CompareRequest("POST", "/items"),
    ]
    found = sample_by_route([*rare, *busy, *busy[:50]], 5, ("GET", "HEAD"))
    assert [f"{each.method} {each.path}" for each in found] == [
        "GET /about", "GET /items/49", "HEAD /about", "GET /items/48", "GET /items/47",
    ]  # fmt: skip
    assert len(sample_by_route(busy + busy, 1000, ("GET",))) == 100
    assert sample_by_route(rare, 10, ("POST",)) == [rare[2]]


def test_credentials_of_a_user_are_never_sent() -> None:
    """Nor what belongs to another connection; names are in lower case."""
    given = {
        "Cookie": SECRET,
        "Authorization": SECRET,
        "X-Api-Key": SECRET,
        "Host": "x",
        "Accept": "text/html",
        ":path": "/",
    }
    assert without_credentials(given) == {"accept": "text/html"}


@pytest.mark.parametrize(
    ("path", "label", "label_of_user"),
    [
        (f"/search?q={SECRET}&page=2", "GET /search?q=…&page=…", "GET /search?q=…&page=…"),
        ("/reset/k3J9xQ0aB7cD2eF4gH6iJ", "GET /reset/k3J9xQ0aB7cD2eF4gH6iJ", "GET /reset/*"),
        ("/items/7?a=1", "GET /items/7?a=…", "GET /items/*?a=…"),
        ("/reset?k3J9xQ0aB7cD2eF4gH6iJ", "GET /reset?*=…", "GET /reset?*=…"),
        ("/?", "GET /", "GET /"),
    ],
)
def test_what_users_sent_is_not_shown(path: str, label: str, label_of_user: str) -> None:
    """The report names the keys of a query; and of a user's request the route, as its path may hold a token."""
    assert CompareRequest("GET", path).label == label
    assert CompareRequest("GET", path, of_user=True).label == label_of_user


def test_lines_of_json(tmp_path: Path) -> None:
    """Method, path, headers, body as text or JSON; only the path is needed."""
    rows: list[dict[str, Any]] = [
        {"path": "/a"},
        {"method": "post", "path": "/b?x=1", "headers": {"Cookie": SECRET, "X-Mode": "1"}, "body": {"n": 1}},
    ]
    file = tmp_path / "requests.jsonl"
    rows[0]["note"] = "a\u2028b"  # no end of a line in JSON
    file.write_text("\n".join(json.dumps(each, ensure_ascii=False) for each in rows) + "\r\n\n")
    assert requests_of_file(file) == [
        CompareRequest("GET", "/a"),
        CompareRequest("POST", "/b?x=1", {"x-mode": "1", "content-type": "application/json"}, b'{"n": 1}'),
    ]


def test_a_har(tmp_path: Path) -> None:
    """As browsers export it; the host is not taken from there."""
    request = {
        "method": "GET", "url": f"https://shop.example.com/items?page=2&t={SECRET}",
        "headers": [{"name": "Cookie", "value": SECRET}, {"name": "Accept", "value": "*/*"}],
    }  # fmt: skip
    file = tmp_path / "recorded.har"
    file.write_text(json.dumps({"log": {"entries": [{"request": request}]}}))
    assert requests_of_file(file) == [CompareRequest("GET", f"/items?page=2&t={SECRET}", {"accept": "*/*"})]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.jsonl", "{", "Expecting property name"),
        ("x.jsonl", '{"method": "GET"}', "'path' is missing"),
        ("x.jsonl", '{"path": "items"}', "path 'items' does not begin with /"),
        ("x.jsonl", "[1]", "list indices must be integers"),
        ("x.har", "{}", "'log' is missing"),
        ("x.har", '{"log": {"entries": [{}]}}', "'request' is missing"),
        (
            "x.har",
            '{"log": {"entries": [{"request": {"url": "http://[", "method": "GET"}}]}}',
            "Invalid IPv6 URL",
        ),
        (
            "x.har",
            '{"log": {"entries": [{"request": {"url": "http://x/", "method": "GÉT /"}}]}}',
            "'GÉT /' is no method",
        ),
        ("x.har", '{"log": {"entries": 7}}', "'int' object is not iterable"),
        (
            "x.har",
            '{"log": {"entries": [{"request": {"url": "http://x/", "method": "GET", "headers": ["a"]}}]}}',
            "string indices",
        ),
        ("x.har", "[" * 10_000, "nested too deeply"),
        (
            "x.jsonl",
            '{"path": "/a"}\n\n{"path": "/b", "method": "two words"}',
            "line 3: 'TWO WORDS' is no method",
        ),
        ("x.jsonl", '{"path": "/a", "body": "\\ud800"}', "line 1: 'utf-8' codec can't encode"),
        ("x.jsonl", "[" * 10_000, "line 1: nested too deeply"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    """It names the file, the key, the fault, and what is allowed."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as error:
        requests_of_file(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name} (compare.file): ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_har_of_a_browser(tmp_path: Path) -> None:
    """Its other hosts, its data and sockets, headers beyond ASCII and the mark of Windows are left out."""
    urls = ["https://cdn.example/x.js", "data:image/png;base64,AA", "data:,", "wss://shop.example/live"]
    urls += ["https://shop.example", "https://shop.example//[?q"]
    headers = [{"name": "X-Name", "value": "Zoë"}, {"name": "X-Mode", "value": "1"}]
    rows = [{"request": {"method": "GET", "url": url, "headers": headers}} for url in urls]
    file = tmp_path / "recorded.har"
    file.write_text(json.dumps({"log": {"entries": rows}}), encoding="utf-8-sig")
    found = requests_of_file(file)
    assert found == [CompareRequest("GET", path, {"x-mode": "1"}) for path in ("/", "//[?q")]
    assert [each.label for each in found] == ["GET /", "GET //[?q=…"]
    assert len(sample_by_route(found, 9, ("GET",))) == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Also one that is no text, or no file."""
    with pytest.raises(ConfigError, match=r"none.jsonl \(compare.file\): no such file"):
        requests_of_file(tmp_path / "none.jsonl")
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        requests_of_file(tmp_path / "x.jsonl")
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="no regular file"):
            requests_of_file(path)


OPENAPI = """
openapi: 3.0.3
paths:
  /items:
    get:
      parameters:
        - {name: page, in: query, schema: {type: integer, default: 2}}
        - {name: tenant, in: header, schema: {type: string}}
    post: {}
  /items/{id}:
    parameters:
      - {name: id, in: path, required: true, example: 7}
    get: {}
    head: {}
  /users/{id}:
    get:
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
  /search:
    get:
      parameters: [{$ref: '#/components/parameters/q'}]
components:
  parameters:
    q: {name: q, in: query, required: true, examples: {tea: {value: green tea}}}
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_an_openapi_document(as_json: bool) -> None:
    """GET and HEAD whose required parameters have an example; what has none is left out."""
    import yaml

    text = json.dumps(yaml.safe_load(OPENAPI)) if as_json else OPENAPI
    assert [f"{each.method} {each.path}" for each in requests_of_openapi(text, "x")] == [
        "GET /items?page=2", "GET /items/7", "HEAD /items/7", "GET /search?q=green+tea",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "a: [", "openapi: 3.0.3", "paths: 1", "{" * 10_000, "[" * 10_000, "a: 2026-13-41", "x: !!python/object:a.b {}",
        "\x00", "a: b: c", "? [a]\n: 1\n? {b: c}\n: 2", f"paths: {{a: {'x' * 1_000_000}}}", f'{{"paths": {"[" * 20_000}',
    ],
)  # fmt: skip
def test_no_openapi_document(text: str) -> None:
    """One line that names it."""
    with pytest.raises(ConfigError, match=r"api.yml \(compare.openapi\): no OpenAPI document: .") as error:
        requests_of_openapi(text, "api.yml")
    assert "\n" not in str(error.value)


LOOP = {"$ref": "#/components/parameters/loop"}
NAMED = {"name": "id", "in": "path", "required": True}


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"paths": {"/a": {"get": {"parameters": [LOOP]}}}, "components": {"parameters": {"loop": LOOP}}}, ["GET /a"]),
        ({"paths": {"/a/{id}": {"get": {"parameters": [NAMED | {"schema": {"$ref": "#/s"}}]}}}, "s": {"$ref": "#/s"}}, []),
        ({"paths": {"/a/{id}": {"get": {"parameters": [NAMED | {"schema": {"$ref": "#/s"}}]}}},
          "s": {"$ref": "#/t"}, "t": {"default": 7}}, ["GET /a/7"]),
        ({"paths": {"/a": {"get": {"parameters": [{"$ref": "other.yml#/p"}]}}}}, ["GET /a"]),
        ({"paths": {"/a": [1], "/b": "text", "/c": None, "x-own": {"get": {}}, "/d": {"get": []}, "/e": {"get": {"parameters": 7}}}},
         ["GET /e"]),
        ({"paths": {"/a": {"get": {"parameters": ["text", 7, None]}}}}, ["GET /a"]),
        ({"paths": {"/a/{id}": {"get": {"parameters": [NAMED | {"schema": "text", "examples": {"x": "text"}}]}}}}, []),
        ({"paths": {"/a": {"get": {"parameters": [{"name": "q", "in": "query", "example": True}]}}}}, ["GET /a?q=true"]),
        ({"paths": {"/a": {"get": {"parameters": [{"name": "q", "in": "query", "example": ["x", 2]}]}}}}, ["GET /a?q=x&q=2"]),
        ({"servers": [{"url": "https://shop.example/api/v1/"}], "paths": {"/a": {"get": {}}}}, ["GET /api/v1/a"]),
        ({"servers": [{"url": "http://["}], "paths": {"/a": {"get": {}}}}, ["GET /a"]),
        ({"servers": [{"url": "/{stage}"}], "paths": {"/a": {"get": {}}}}, ["GET /a"]),
        ({"swagger": "2.0", "basePath": "/v2", "paths": {"/a/{id}": {"get": {"parameters": [NAMED | {"default": 7}]}}}},
         ["GET /v2/a/7"]),
    ],
)  # fmt: skip
def test_an_openapi_document_of_odd_parts(document: dict[str, Any], found: list[str]) -> None:
    """References that lead nowhere, parts of another type, extensions: what can be asked is."""
    assert [f"{each.method} {each.path}" for each in requests_of_openapi(json.dumps(document), "x")] == found


def test_a_bomb_of_yaml() -> None:
    """Names that stand for ten others each are not written out."""
    lines = ["a0: &a0 {x: y}", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30))]
    assert [
        each.path for each in requests_of_openapi("\n".join([*lines, "paths: {/a: {get: {}}}"]), "x")
    ] == ["/a"]
