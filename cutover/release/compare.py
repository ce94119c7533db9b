"""Which requests two releases are compared by: those of users from the access log, a file, an OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    text_of,
)
from cutover.proxy.access_log import access_logs, newest_requests
from cutover.proxy.base import own_paths
from cutover.system.http import HttpClient


def known_requests(settings: Settings, live: HttpClient, tell: Callable[[str], None]) -> list[CompareRequest]:
    """A sample of the requests of `[compare]`, of each route as many; raises ConfigError for a file without any.

    Those of a file come first, because a team has chosen them. Of a request in the log only method, path and query are
    known, and only GET and HEAD are taken. *tell* is called with the reason if a log cannot be read, or the *live*
    release serves no OpenAPI document; the other requests are compared all the same.
    """
    wanted = settings.compare
    if wanted is None:
        return []
    chosen = requests_of_file(wanted.file) if wanted.file else []
    if wanted.openapi.startswith("/"):
        chosen += _of_service(wanted.openapi, live, tell)
    elif wanted.openapi:
        chosen += _of_openapi_file(settings, wanted.openapi)
    seen = [each for each in (_of_log(settings, tell) if wanted.log else ()) if each.method in SAFE]
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
        _of_openapi_file(settings, wanted.openapi)


def _of_log(settings: Settings, tell: Callable[[str], None]) -> Iterator[CompareRequest]:
    ours = own_paths(settings)
    requests, troubles = newest_requests(access_logs(settings))
    for trouble in troubles.values():
        tell(f"{trouble}; no request is taken from it")
    for each in requests:
        answered = HTTPStatus.OK <= each.status < HTTPStatus.INTERNAL_SERVER_ERROR
        if answered and each.color and not each.is_ours(ours):
            path = f"{each.path}?{each.query}" if each.query else each.path
            yield CompareRequest(each.method, path, of_user=True)


def _of_service(path: str, live: HttpClient, tell: Callable[[str], None]) -> list[CompareRequest]:
    got = live.send("GET", path)
    if got.status != HTTPStatus.OK:
        tell(f"{path} (compare.openapi): the live release: {got.status or got}; no request is taken from it")
        return []
    try:
        return requests_of_openapi(got.body, path)
    except ConfigError as error:
        tell(f"{error}; no request is taken from it")
        return []


def _of_openapi_file(settings: Settings, name: str) -> list[CompareRequest]:
    path = Path(settings.source.parent, name)
    return requests_of_openapi(text_of(path, "compare.openapi"), str(path))
