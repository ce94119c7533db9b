"""The requests by which two releases are compared: from a file, a HAR, or an OpenAPI document; a sample by route."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from cutover.core.errors import ConfigError
from cutover.core.text import route_of

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


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """A request that both releases get; it carries no credentials of a user."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def route(self) -> str:
        """The method, and the path with `*` for each ID."""
        return route_of(self.method, urlsplit(self.path).path)

    @property
    def label(self) -> str:
        """`GET /search?q=…`: as reports show it, without the values of its query."""
        parts = urlsplit(self.path)
        names = "&".join(f"{name}=…" for name, _ in parse_qsl(parts.query, keep_blank_values=True))
        return f"{self.method} {parts.path}{f'?{names}' if names else ''}"

    @property
    def key(self) -> tuple[str, str, bytes]:
        """Equal for the same request."""
        return self.method, self.path, self.body


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """*headers*, names in lower case, without those of a user or of a connection."""
    names = {name.lower(): value for name, value in headers.items() if not name.startswith(":")}
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
    """The requests of a HAR (`.har`), or of lines of JSON with method, path, headers, body; raises ConfigError."""
    text = text_of(path, "compare.file")
    try:
        if path.suffix == ".har":
            rows = [each["request"] for each in json.loads(text)["log"]["entries"]]
            return [_of_har(each) for each in rows]
        lines = [line for line in text.splitlines() if line.strip()]
        return [_of_line(json.loads(line)) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = 'a HAR, or lines like {"method": "GET", "path": "/items/7"}'
        raise ConfigError(f"{path} (compare.file): {_problem(error)}; it must be {what}") from error


def _problem(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def text_of(path: Path, key: str) -> str:
    """The text of a file that *key* of cutover.toml names; raises ConfigError."""
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise ConfigError(
                f"{path} ({key}): more than {MOST_FILE_BYTES // 1_000_000} MB; take a part of it"
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} ({key}): {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} ({key}): not UTF-8: {error}") from error


def _of_har(row: Mapping[str, Any]) -> CompareRequest:
    parts = urlsplit(str(row["url"]))
    headers = {str(each["name"]): str(each["value"]) for each in row.get("headers") or ()}
    body = str((row.get("postData") or {}).get("text") or "").encode()
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    return CompareRequest(str(row["method"]).upper(), path, without_credentials(headers), body)


def _of_line(row: Mapping[str, Any]) -> CompareRequest:
    path, body = str(row["path"]), row.get("body")
    if not path.startswith("/"):
        raise ValueError(f"path {path!r} does not begin with /")
    headers = without_credentials({str(key): str(value) for key, value in (row.get("headers") or {}).items()})
    if body is None or isinstance(body, str):
        data = (body or "").encode()
    else:
        data = json.dumps(body, ensure_ascii=False).encode()
        headers.setdefault("content-type", "application/json")
    return CompareRequest(str(row.get("method", "GET")).upper(), path, headers, data)


# --- OpenAPI -------------------------------------------------------------------------------------------------------
def requests_of_openapi(text: str, where: str) -> list[CompareRequest]:
    """GET and HEAD whose required parameters have an example or a default; raises ConfigError."""
    import yaml  # only for a service with [compare] openapi

    try:
        document = yaml.safe_load(text)  # JSON is YAML
        paths = document["paths"].items()
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where} (compare.openapi): no OpenAPI document: it has no paths") from error
    return [each for path, item in paths for each in _of_path(document, str(path), item or {})]


def _of_path(document: Mapping[str, Any], path: str, item: Mapping[str, Any]) -> Iterator[CompareRequest]:
    for method in SAFE:
        operation = item.get(method.lower())
        if not isinstance(operation, Mapping):
            continue
        parameters = [
            _resolved(document, each)
            for each in (*(item.get("parameters") or ()), *(operation.get("parameters") or ()))
        ]
        filled, query, whole = path, {}, True
        for each in parameters:
            name, place, value = str(each.get("name")), each.get("in"), _example(document, each)
            if place == "path" and value is not None:
                filled = filled.replace(f"{{{name}}}", quote(str(value), safe=""))
            elif place == "query" and value is not None:
                query[name] = str(value)
            elif each.get("required") and place in {"path", "query", "header"}:
                whole = False
        if whole and "{" not in filled:
            yield CompareRequest(method, f"{filled}?{urlencode(query)}" if query else filled)


def _resolved(document: Mapping[str, Any], part: Any) -> Mapping[str, Any]:
    reference = part.get("$ref") if isinstance(part, Mapping) else None
    found: Any = part
    if isinstance(reference, str) and reference.startswith("#/"):
        found = document
        for key in reference[2:].split("/"):
            found = (
                found.get(key.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
            )
    return found if isinstance(found, Mapping) else {}


def _example(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> Any:
    """The first example, default or allowed value of a parameter; None without one."""
    schema = _resolved(document, parameter.get("schema") or {})
    named = parameter.get("examples")
    of_names = [each.get("value") for each in named.values()] if isinstance(named, Mapping) else []
    listed = schema.get("examples")
    choices = schema.get("enum")
    found = (
        parameter.get("example"),
        *of_names,
        schema.get("example"),
        *(listed if isinstance(listed, list) else ()),
        schema.get("default"),
        *(choices if isinstance(choices, list) else ()),
    )
    return next((each for each in found if each is not None), None)
