"""`check_names` agrees with `default_checks` for each kind of target and configuration."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config import Settings
from cutover.core.evidence import Evidence
from cutover.core.target import ControlProbe, Target
from cutover.watch import suite as watch_suite
from cutover.watch.suite import EARLY, WatchSuite, check_names, default_checks
from tests.helpers.containers import container

LIVE = Target("live", "live", "http://127.0.0.1:9", "green", "recall_green", through_proxy=True)
OLD = Target("blue", "color", "http://127.0.0.1:9", "blue", "recall_blue")
URL = Target("http://127.0.0.1:9", "url", "http://127.0.0.1:9")
BARE: dict[str, Any] = {"project": "recall", "colors": {"blue": {"env_file": ".env.blue"}}}
FULL: dict[str, Any] = {
    "endpoints": [{"path": "/memories"}],
    "project": "recall",
    "colors": {color: {"env_file": f".env.{color}"} for color in ("blue", "green")},
    "proxy": {"driver": "nginx", "url": "http://127.0.0.1:9", "access_log": "access.json"},
}


@pytest.mark.parametrize("table", [BARE, FULL], ids=["bare", "full"])
@pytest.mark.parametrize("live", [LIVE, URL], ids=str)
@pytest.mark.parametrize("old", [OLD, None], ids=str)
def test_the_names_are_known_beforehand(
    table: dict[str, Any], live: Target, old: Target | None, tmp_path: Path
) -> None:
    """Each name has its check, in the same order, also if this target cannot be asked."""
    settings = Settings.model_validate(table)
    if settings.proxy:
        proxy = settings.proxy.model_copy(update={"access_log": tmp_path / "access.json"})
        settings = settings.model_copy(update={"proxy": proxy})
    checks = default_checks(settings, live, old, ControlProbe(lambda: True), Evidence(), 0.0)
    assert [each.name for each in checks] == check_names(settings)
    assert [each.verdict().question for each in checks] == check_names(settings)


def test_the_watch_goes_on_where_the_early_checks_are(tmp_path: Path) -> None:
    """The checks that run from the switch on have the same sources as those of the watch, which also has workers."""
    settings = Settings.model_validate(FULL | {"workers": ["jobs"]})
    assert settings.proxy
    proxy = settings.proxy.model_copy(update={"access_log": tmp_path / "access.json"})
    settings = settings.model_copy(update={"proxy": proxy})
    suite = WatchSuite(settings, LIVE, OLD, ControlProbe(lambda: True), Evidence(), 0.0)
    early, later = ({each.name: each for each in checks} for checks in (suite.early(), suite.checks()))
    assert early.keys() == EARLY
    assert all(later[name].source is each.source for name, each in early.items())
    assert [each.service for each in early["restarts"].siblings] == []
    assert [each.service for each in later["restarts"].siblings] == ["jobs"]


@pytest.mark.parametrize(("status", "excuses"), [("running", True), ("paused", False)])
def test_a_paused_old_color_excuses_nothing(
    monkeypatch: pytest.MonkeyPatch, status: str, excuses: bool
) -> None:
    """It answers nobody for a reason of its own; one that runs and does not answer may share the trouble."""
    monkeypatch.setattr(watch_suite, "TROUBLE_S", 0.05)
    monkeypatch.setattr(watch_suite, "_finder", lambda *_: lambda: container(Status=status))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        old = replace(OLD, base_url=f"http://127.0.0.1:{mute.getsockname()[1]}")
        settings = Settings.model_validate(FULL)
        made = WatchSuite(settings, LIVE, old, ControlProbe(lambda: True), Evidence(), 0.0)
        for trouble in (made.trouble, made.slowness, made.health_trouble):
            assert trouble is not None
            assert bool(trouble()) is excuses
