"""Which requests two releases are compared by: those of users from the access log, a file, an OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.gate.compare_requests import (
    SAFE,
    CompareRequest,
    requests_of_file,
    requests_of_openapi,
    sample_by_route,
)
from cutover.proxy.access_log import newest_requests
from cutover.system.http import HttpClient, HttpResponse
from cutover.watch.suite import own_paths


def known_requests(settings: Settings, live: HttpClient) -> list[CompareRequest]:
    """A sample of the requests of `[compare]`, of each route as many; raises ConfigError for a source without any.

    Those of a file come first, because a team has chosen them. Requests of the log have no headers and no body, so
    nothing of a user but the path; only GET and HEAD are taken from there.
    """
    wanted = settings.compare
    if wanted is None:
        return []
    chosen = requests_of_file(wanted.file) if wanted.file else []
    chosen += _of_document(settings, wanted.openapi, live) if wanted.openapi else []
    seen = [each for each in (_of_log(settings) if wanted.log else ()) if each.method in SAFE]
    first = sample_by_route(chosen, wanted.count, wanted.methods)
    known = {each.key for each in first}
    rest = (each for each in sample_by_route(seen, wanted.count, wanted.methods) if each.key not in known)
    return [*first, *rest][: wanted.count]


def require_readable(settings: Settings) -> None:
    """Raise ConfigError if a file of `[compare]` has no requests."""
    wanted = settings.compare
    if wanted is not None and wanted.file:
        requests_of_file(wanted.file)
    if wanted is not None and wanted.openapi and not wanted.openapi.startswith("/"):
        _of_file(settings, wanted.openapi)


def _of_log(settings: Settings) -> Iterator[CompareRequest]:
    log = settings.proxy.access_log if settings.proxy else None
    if log is None:
        return
    ours = own_paths(settings)
    for each in newest_requests(log):
        answered = HTTPStatus.OK <= each.status < HTTPStatus.INTERNAL_SERVER_ERROR
        if answered and each.color and not each.is_ours(ours):
            yield CompareRequest(each.method, f"{each.path}?{each.query}" if each.query else each.path)


def _of_document(settings: Settings, where: str, live: HttpClient) -> list[CompareRequest]:
    """The requests of the OpenAPI document at *where*: a path of the service, or a file beside cutover.toml."""
    if where.startswith("/"):
        got = live.send("GET", where)
        if not isinstance(got, HttpResponse) or got.status != HTTPStatus.OK:
            raise ConfigError(f"compare.openapi: {where} of the live release: {got.status or got}")
        return requests_of_openapi(got.body, where)
    return _of_file(settings, where)


def _of_file(settings: Settings, where: str) -> list[CompareRequest]:
    path = Path(settings.source.parent, where)
    try:
        return requests_of_openapi(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} (compare.openapi): {error}") from error
