"""`check_names` agrees with `WatchSuite.checks` for each kind of target and configuration."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config import Settings
from cutover.core.evidence import Evidence
from cutover.core.target import ControlProbe, Target
from cutover.watch import suite as watch_suite
from cutover.watch.dependencies import DependencyAnswer
from cutover.watch.suite import EARLY, WatchSuite, check_names
from tests.helpers.containers import container
from tests.helpers.http_service import Answer, Asked, json_answer, serving

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
    checks = WatchSuite(settings, live, old, ControlProbe(lambda: True), Evidence(), 0.0).checks()
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


@pytest.mark.parametrize("ready", [200, 503])
@pytest.mark.parametrize("ai", [DependencyAnswer(2.0), DependencyAnswer(error="Connection refused")], ids=str)
@pytest.mark.parametrize(("checkout_live", "checkout_old"), [(200, 200), (500, 500), (500, 200)])
def test_an_endpoint_that_only_the_new_release_fails_is_never_excused(
    monkeypatch: pytest.MonkeyPatch, ready: int, ai: DependencyAnswer, checkout_live: int, checkout_old: int
) -> None:
    """Not by an old color that is not ready, nor by a dependency; without such an endpoint both excuse."""
    now = [DependencyAnswer(2.0)]
    monkeypatch.setattr(watch_suite, "_finder", lambda *_: container)
    monkeypatch.setattr(watch_suite, "ask_dependencies", lambda *_: {"ai": now[0]})
    table = FULL | {
        "endpoints": [{"path": "/checkout", "max_latency": "1m"}],
        "dependencies": [{"name": "ai", "kind": "tcp", "url": "tcp://ai:1"}],
    }

    def answers(checkout: int) -> Callable[[Asked], Answer]:
        return lambda asked: json_answer({}, checkout if asked.path == "/checkout" else ready)

    with serving(answers(checkout_live)) as live, serving(answers(checkout_old)) as old:
        made = WatchSuite(
            Settings.model_validate(table), replace(LIVE, base_url=live.url), replace(OLD, base_url=old.url),
            ControlProbe(lambda: True), Evidence(), 0.0,
        )  # fmt: skip
        troubles = made.trouble, made.slowness
        now[0] = ai
        shared = ready == 503 or bool(ai.error) or checkout_live == checkout_old == 500
        for trouble in troubles:
            assert trouble is not None
            assert bool(trouble()) is (shared and checkout_live <= checkout_old)
