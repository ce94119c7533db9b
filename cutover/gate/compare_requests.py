"""The requests by which two releases are compared: from a file, a HAR, or an OpenAPI document; a sample by route."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from cutover.core.errors import ConfigError
from cutover.core.text import quoted, route_of, shown_query

SAFE = ("GET", "HEAD")
CREDENTIALS = frozenset({
    "authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token", "x-csrf-token", "x-xsrf-token",
})  # fmt: skip
OF_THE_CONNECTION = frozenset({
    "host", "connection", "content-length", "transfer-encoding", "accept-encoding", "upgrade", "te", "user-agent",
    "if-none-match", "if-modified-since",
})  # fmt: skip
"""Headers that belong to another connection, or for which an answer may have no body."""
MOST_FILE_BYTES = 50_000_000
MOST_YAML = 1_000_000
"""Letters; a parser of YAML takes a second for some 100,000."""
MOST_REFERENCES = 20
METHOD = re.compile(r"[A-Z]+(?:-[A-Z]+)*")


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """A request that both releases get; it carries no credentials of a user."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    of_user: bool = False
    """Whether a user sent it: its path may hold a token of theirs."""

    @property
    def route(self) -> str:
        """The method, and the path with `*` for each ID."""
        return route_of(self.method, self.path.partition("?")[0])

    @property
    def label(self) -> str:
        """`GET /items/7?q=…`: as reports show it, without the values of its query; of a user's request the route."""
        path, _, query = self.path.partition("?")
        return f"{self.route if self.of_user else f'{self.method} {path}'}{shown_query(query)}"

    @property
    def key(self) -> tuple[str, str, bytes]:
        """Equal for the same request."""
        return self.method, self.path, self.body


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """*headers*, names in lower case, without those of a user or of a connection, and those that are not ASCII."""
    names = {
        name.lower(): value
        for name, value in headers.items()
        if not name.startswith(":") and name.isascii() and value.isascii()
    }
    return {key: value for key, value in names.items() if key not in CREDENTIALS | OF_THE_CONNECTION}


def sample_by_route(
    requests: Iterable[CompareRequest], most: int, methods: Sequence[str]
) -> list[CompareRequest]:
    """At most *most* different ones of *requests*, of each route as many, the last ones first; only *methods*."""
    by_route: dict[str, dict[tuple[str, str, bytes], CompareRequest]] = defaultdict(dict)
    for each in requests:
        if each.method in methods:
            of_route = by_route[each.route]
            of_route.pop(each.key, None)  # the newest is at the end
            of_route[each.key] = each
    newest_first = [[*reversed(found.values())] for _, found in sorted(by_route.items())]
    turns = itertools.zip_longest(*newest_first)
    return [each for turn in turns for each in turn if each is not None][:most]


# --- files ---------------------------------------------------------------------------------------------------------
def requests_of_file(path: Path) -> list[CompareRequest]:
    """The requests of a HAR (`.har`), or of lines of JSON with method, path, headers, body; raises ConfigError.

    A HAR has requests to other hosts too: those to the host that it names most are taken.
    """
    text, number = text_of(path, "compare.file"), 0
    try:
        if path.suffix == ".har":
            return _of_har(json.loads(text))
        found = []
        for number, line in enumerate(text.split("\n"), 1):  # noqa: B007  # for the message
            found += [_of_line(json.loads(line))] if line.strip() else []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = 'a HAR, or lines like {"method": "GET", "path": "/items/7"}'
        where = f"line {number}: " if number else ""
        raise ConfigError(f"{path} (compare.file): {where}{_problem(error)}; it must be {what}") from error
    return found


def _problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())


def text_of(path: Path, key: str) -> str:
    """The text of a file that *key* of cutover.toml names; raises ConfigError."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} ({key}): no regular file")
        if path.stat().st_size > MOST_FILE_BYTES:
            why = f"more than {MOST_FILE_BYTES // 1_000_000} MB; take a part of it"
            raise ConfigError(f"{path} ({key}): {why}")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} ({key}): {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} ({key}): not UTF-8: {error}") from error


def _of_har(document: Any) -> list[CompareRequest]:
    rows = [(urlsplit(str(each["request"]["url"])), each["request"]) for each in document["log"]["entries"]]
    of_service = [each for each in rows if each[0].scheme in {"http", "https"}]
    hosts = Counter(url.netloc for url, _ in of_service)
    most = max(hosts, key=hosts.__getitem__, default="")
    return [_of_entry(url, row) for url, row in of_service if url.netloc == most]


def _of_entry(url: SplitResult, row: Mapping[str, Any]) -> CompareRequest:
    headers = {str(each["name"]): str(each["value"]) for each in row.get("headers") or ()}
    body = str((row.get("postData") or {}).get("text") or "").encode()
    path = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
    return CompareRequest(_method(row["method"]), path, without_credentials(headers), body)


def _method(given: object) -> str:
    name = str(given).upper()
    if not METHOD.fullmatch(name):
        raise ValueError(f"{quoted(name)} is no method")
    return name


def _of_line(row: Mapping[str, Any]) -> CompareRequest:
    path, body = str(row["path"]), row.get("body")
    if not path.startswith("/"):
        raise ValueError(f"path {quoted(path)} does not begin with /")
    headers = without_credentials({str(key): str(value) for key, value in (row.get("headers") or {}).items()})
    if body is None or isinstance(body, str):
        data = (body or "").encode()
    else:
        data = json.dumps(body, ensure_ascii=False).encode()
        headers.setdefault("content-type", "application/json")
    return CompareRequest(_method(row.get("method", "GET")), path, headers, data)


# --- OpenAPI -------------------------------------------------------------------------------------------------------
def requests_of_openapi(text: str, where: str) -> list[CompareRequest]:
    """GET and HEAD whose required parameters have an example or a default; raises ConfigError."""
    import yaml  # only for a service with [compare] openapi

    try:
        document = _parsed(text)
        paths = document["paths"].items()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where} (compare.openapi): no OpenAPI document: {_problem(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where} (compare.openapi): no OpenAPI document: it has no paths") from error
    base = _base_path(document)
    return [
        each
        for path, item in paths
        if str(path).startswith("/") and isinstance(item, Mapping)
        for each in _of_path(document, f"{base}{path}", item)
    ]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if len(text) > MOST_YAML:
            why = f"more than {MOST_YAML // 1_000_000} MB of YAML"
            raise ValueError(f"{why}; take JSON, or a part of it") from None
        import yaml  # only for a document that is not JSON

        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # a safe one


def _base_path(document: Mapping[str, Any]) -> str:
    """What all paths begin with: the path of the first of `servers`, or `basePath` of an old document."""
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else {}
    url = first.get("url") if isinstance(first, Mapping) else ""
    try:
        base = urlsplit(str(url or document.get("basePath") or "")).path.rstrip("/")
    except ValueError:
        return ""
    return base if base.startswith("/") and "{" not in base else ""


def _of_path(document: Mapping[str, Any], path: str, item: Mapping[str, Any]) -> Iterator[CompareRequest]:
    for method in SAFE:
        operation = item.get(method.lower())
        if not isinstance(operation, Mapping):
            continue
        parameters = [
            _resolved(document, each)
            for owner in (item, operation)
            if isinstance(listed := owner.get("parameters"), list)
            for each in listed
        ]
        filled, query, whole = path, {}, True
        for each in parameters:
            name, place, value = str(each.get("name")), each.get("in"), _example(document, each)
            if place == "path" and value is not None:
                filled = filled.replace(f"{{{name}}}", quote(_spelled(value), safe=""))
            elif place == "query" and value is not None:
                query[name] = [*map(_spelled, value)] if isinstance(value, list) else _spelled(value)
            elif each.get("required") and place in {"path", "query", "header"}:
                whole = False
        if whole and "{" not in filled:
            yield CompareRequest(method, f"{filled}?{urlencode(query, doseq=True)}" if query else filled)


def _spelled(value: object) -> str:
    """A value as it is sent: `true`, not `True`."""
    return value if isinstance(value, str) else json.dumps(value, default=str).strip('"')


def _resolved(document: Mapping[str, Any], part: Any) -> Mapping[str, Any]:
    """*part*, or what its `$ref` leads to within the document; empty if that has no end."""
    found: Any = part
    for _ in range(MOST_REFERENCES):
        reference = found.get("$ref") if isinstance(found, Mapping) else None
        if not isinstance(reference, str):
            return found if isinstance(found, Mapping) else {}
        if not reference.startswith("#/"):
            return {}
        found = document
        for key in reference[2:].split("/"):
            name = key.replace("~1", "/").replace("~0", "~")
            found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return {}


def _example(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> Any:
    """The first example, default or allowed value of a parameter; None without one."""
    schema = _resolved(document, parameter.get("schema") or parameter)  # an old document has no `schema`
    named = parameter.get("examples")
    of_names = [*map(partial(_resolved, document), named.values())] if isinstance(named, Mapping) else []
    listed = schema.get("examples")
    choices = schema.get("enum")
    found = (
        parameter.get("example"),
        *(each.get("value") for each in of_names),
        schema.get("example"),
        *(listed if isinstance(listed, list) else ()),
        schema.get("default"),
        *(choices if isinstance(choices, list) else ()),
    )
    return next((each for each in found if each is not None), None)
