"""Which requests two releases are compared by: chosen ones first, then those of users by the access log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cutover.core.config import Settings, url_config
from cutover.core.config_schema import Compare, Proxy
from cutover.core.errors import ConfigError
from cutover.release.compare import known_requests, require_readable
from cutover.system.http import HttpClient
from tests.helpers.http_service import Answer, json_answer, serving

LOGGED = {
    "ts": "1756951800.1",
    "color": "blue",
    "status": "200",
    "seconds": "0.01",
    "connection": "7",
    "method": "GET",
}
OPENAPI = {"paths": {"/items/{id}": {"get": {"parameters": [{"name": "id", "in": "path", "example": 7}]}}}}


def settings(folder: Path, **compare: object) -> Settings:
    """Settings with `[compare]`, and a proxy whose log is in *folder*."""
    proxy = Proxy.model_validate(
        {
            "driver": "nginx",
            "url": "http://127.0.0.1:1",
            "marker_dir": str(folder),
            "access_log": str(folder / "log"),
        }
    )
    found = url_config().model_copy(update={"proxy": proxy, "source": folder / "cutover.toml"})
    return found.model_copy(update={"compare": Compare.model_validate(compare)})


def log(folder: Path, *rows: dict[str, str]) -> None:
    """Write the proxy's access log."""
    lines = (json.dumps(LOGGED | {"upstream_addr": "127.0.0.1:8000", "agent": ""} | row) for row in rows)
    (folder / "log").write_text("".join(f"{line}\n" for line in lines))


def asked(found: Settings, live: str = "http://127.0.0.1:9") -> tuple[list[str], list[str]]:
    """Method and path of each request, and what was told."""
    told: list[str] = []
    with HttpClient(live, 1.0) as client:
        requests = known_requests(found, client, told.append)
    return [f"{each.method} {each.path}" for each in requests], told


def test_requests_of_users_are_taken_from_the_log(tmp_path: Path) -> None:
    """GET and HEAD that a color answered; not our own, not those that failed, not those that write."""
    log(
        tmp_path, {"path": "/items/7"}, {"path": "/items/8?page=2"}, {"path": "/about", "method": "HEAD"},
        {"path": "/ours", "agent": "cutover"}, {"path": "/broken", "status": "502"}, {"path": "/items", "method": "POST"},
        {"path": "/proxy", "upstream_addr": "-"},
    )  # fmt: skip
    found, told = asked(settings(tmp_path))
    assert found == ["GET /items/8?page=2", "HEAD /about", "GET /items/7"]
    assert told == []
    assert asked(settings(tmp_path, log=False, openapi="/api"))[0] == []


def test_what_a_team_has_chosen_comes_first(tmp_path: Path) -> None:
    """And is not asked twice; together they are at most `count`."""
    log(tmp_path, {"path": "/items/7"}, {"path": "/items/8"}, {"path": "/items/9"})
    (tmp_path / "chosen.jsonl").write_text('{"path": "/items/8"}\n{"path": "/rare"}\n')
    chosen = {"file": str(tmp_path / "chosen.jsonl")}
    assert asked(settings(tmp_path, **chosen))[0] == [
        "GET /items/8",
        "GET /rare",
        "GET /items/9",
        "GET /items/7",
    ]
    assert asked(settings(tmp_path, **chosen, count=3))[0] == ["GET /items/8", "GET /rare", "GET /items/9"]


@pytest.mark.parametrize(
    ("answer", "found", "said"),
    [
        (json_answer(OPENAPI), ["GET /items/7"], []),
        (json_answer({}, 404), [], ["/api (compare.openapi): the live release: 404; no request is taken from it"]),
        (Answer(body=b"hello"), [], ["/api (compare.openapi): no OpenAPI document: it has no paths; no request is taken from it"]),
    ],
)  # fmt: skip
def test_a_document_of_the_live_release(
    tmp_path: Path, answer: Answer, found: list[str], said: list[str]
) -> None:
    """One that it does not have is told, and is no fault of the new release."""
    with serving(lambda _: answer) as service:
        assert asked(settings(tmp_path, openapi="/api"), service.url) == (found, said)


def test_a_live_release_that_does_not_answer(tmp_path: Path) -> None:
    """It is told, too."""
    found, told = asked(settings(tmp_path, openapi="/api"))
    assert (found, len(told)) == ([], 1)
    assert told[0].startswith("/api (compare.openapi): the live release: connection refused")


@pytest.mark.parametrize(("key", "name"), [("file", "none.jsonl"), ("openapi", "none.yml")])
def test_a_file_that_is_not_there_is_refused_before_the_release(tmp_path: Path, key: str, name: str) -> None:
    """One line that names it."""
    value = str(tmp_path / name) if key == "file" else name
    with pytest.raises(ConfigError, match=rf"{name} \(compare.{key}\): no such file"):
        require_readable(settings(tmp_path, **{key: value}))
