"""The write freeze: a file that comes and goes."""

from __future__ import annotations

import subprocess
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from cutover.core.config import Settings
from cutover.core.errors import Failed
from cutover.core.verdict import Outcome
from cutover.proxy.base import ProxyClient
from cutover.release.switch import (
    WriteFreeze,
    check_frozen,
    freeze_change,
    freeze_file,
    judge_frozen,
    unfreeze_change,
)
from tests.helpers.proxy_drivers import answering, raw_response

if TYPE_CHECKING:
    from pathlib import Path

    from cutover.core.change import Change


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose marker directory exists."""
    return Settings.model_validate(
        {
            "project": "recall",
            "colors": {"blue": {"env_file": tmp_path / "b"}},
            "proxy": {"driver": "nginx", "marker_dir": tmp_path},
            "freeze": {},
        }
    )


def do(change: Change) -> None:
    """Run a change's own words."""
    subprocess.run(change.do, check=True)


def undo(change: Change) -> None:
    """Run a change's undo as the revert does."""
    subprocess.run(("sh", "-eu"), input="\n".join(change.undo).encode(), check=True)


def test_freezes_and_thaws(settings: Settings) -> None:
    """The file is there while writes are frozen and gone afterwards, however often each is done."""
    for _ in range(2):
        do(freeze_change(settings))
        assert freeze_file(settings).exists()
    for _ in range(2):
        do(unfreeze_change(settings))
        assert not freeze_file(settings).exists()


def test_undo_lifts_the_freeze_and_may_run_again(settings: Settings) -> None:
    """The undo is a no-op when it has run, and when the freeze never happened."""
    undo(freeze_change(settings))
    do(freeze_change(settings))
    undo(freeze_change(settings))
    undo(freeze_change(settings))
    assert not freeze_file(settings).exists()


def test_lies_beside_the_marker(settings: Settings, tmp_path: Path) -> None:
    """The proxy looks in its marker directory, or where cutover.toml says."""
    assert freeze_file(settings) == tmp_path / "freeze"
    elsewhere = settings.model_copy(
        update={
            "freeze": settings.freeze.model_copy(update={"marker": tmp_path / "x"})
            if settings.freeze
            else None
        }
    )
    assert freeze_file(elsewhere) == tmp_path / "x"


@pytest.mark.parametrize(
    ("seconds", "outcome"), [(12.0, Outcome.YES), (300.0, Outcome.YES), (301.0, Outcome.NO)]
)
def test_judges_how_long_users_waited(seconds: float, outcome: Outcome) -> None:
    """A freeze that lasts longer than promised is a no."""
    assert judge_frozen(seconds, 300.0).outcome is outcome
    assert judge_frozen(300.4, 300.0).reason == "expected a freeze of at most 300 s, it lasts for 301 s"


@pytest.mark.parametrize(
    ("proxy", "freeze", "allowed"),
    [
        ({"driver": "nginx"}, {}, True),
        ({"driver": "command"}, {"marker": "/m"}, True),
        ({"driver": "command"}, {}, False),
        ({"driver": "traefik"}, {"marker": "/m"}, False),
        ({"driver": "port-swap"}, {}, False),
        (None, {}, False),
    ],
)
def test_somebody_must_refuse_writes(
    proxy: dict[str, object] | None, freeze: dict[str, object], allowed: bool
) -> None:
    """A freeze that no proxy looks at is refused with the settings, not told as if it had happened."""
    table = {"project": "recall", "colors": {"blue": {"env_file": "b"}}, "proxy": proxy, "freeze": freeze}
    with nullcontext() if allowed else pytest.raises(ValidationError, match="answers writes with 503"):
        Settings.model_validate(table)


def test_a_freeze_ends_with_the_time_that_users_were_promised() -> None:
    """Within it nothing happens; past it the release ends, and its undo lets writes through."""
    now = time.monotonic()
    WriteFreeze(now, 300.0).require_in_time()
    with pytest.raises(Failed, match="freeze: expected a freeze of at most 300 s, it lasts for"):
        WriteFreeze(now - 301, 300.0).require_in_time()
    WriteFreeze(now - 301, None).require_in_time()


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        (503, Outcome.YES, "is answered with 503"),
        (200, Outcome.NO, "expected status 503, got 200"),
        (404, Outcome.NO, "expected status 503, got 404"),
    ],
)
def test_the_proxy_is_asked_whether_writes_are_frozen(status: int, outcome: Outcome, reason: str) -> None:
    """A file that nobody reads freezes nothing, and is not told as a freeze."""
    with answering(alive=raw_response(status)) as port:
        verdict = check_frozen(ProxyClient(f"http://127.0.0.1:{port}", "/version", "/alive", "X-Color"))
    assert verdict.outcome is outcome
    assert (
        verdict.reason
        == f"POST http://127.0.0.1:{port}/alive{' ' if outcome is Outcome.YES else ': '}{reason}"
    )
