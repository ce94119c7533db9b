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


def test_values_of_a_query_are_not_shown() -> None:
    """The report names the keys."""
    assert CompareRequest("GET", f"/search?q={SECRET}&page=2").label == "GET /search?q=…&page=…"


def test_lines_of_json(tmp_path: Path) -> None:
    """Method, path, headers, body as text or JSON; only the path is needed."""
    rows: list[dict[str, Any]] = [
        {"path": "/a"},
        {"method": "post", "path": "/b?x=1", "headers": {"Cookie": SECRET, "X-Mode": "1"}, "body": {"n": 1}},
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
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


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Also one that is no text."""
    with pytest.raises(ConfigError, match=r"none.jsonl \(compare.file\): no such file"):
        requests_of_file(tmp_path / "none.jsonl")
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        requests_of_file(tmp_path / "x.jsonl")


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


@pytest.mark.parametrize("text", ["", "[]", "a: [", "openapi: 3.0.3", "paths: 1"])
def test_no_openapi_document(text: str) -> None:
    """One line that names it."""
    with pytest.raises(ConfigError, match=r"api.yml \(compare.openapi\): no OpenAPI document"):
        requests_of_openapi(text, "api.yml")
