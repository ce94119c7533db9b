"""Proxies with files changed by hand or a broken live color: the state is reported, and a switch away is possible."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cutover.core.verdict import Outcome
from cutover.proxy.nginx import Nginx
from cutover.proxy.proof import ProbePlan
from cutover.system.process import run
from tests.helpers.color_servers import Colors, wait_until
from tests.helpers.proxy_files import create_marker
from tests.helpers.real_proxies import (
    DEADLINE_S,
    PROXIES,
    Start,
    haproxy,
    nginx,
    nginx_in_a_container,
    traefik,
)

pytestmark = pytest.mark.engine


def remade(marker: Path) -> None:
    """Delete and recreate the directory."""
    for each in marker.iterdir():
        each.unlink()
    (marker / "blue").touch()


BY_HAND: list[tuple[str, Callable[[Path], object], Outcome, str]] = [
    ("both", lambda marker: (marker / "green").touch(), Outcome.UNKNOWN, "names blue and green"),
    ("neither", lambda marker: (marker / "blue").unlink(), Outcome.UNKNOWN, "names neither blue nor green"),
    ("made anew", remade, Outcome.UNKNOWN, "has lost its file here"),
    ("closed", lambda marker: marker.chmod(0o700), Outcome.UNKNOWN, "has mode 0700"),
    ("gone", shutil.rmtree, Outcome.UNKNOWN, "no such file or directory"),
    ("moved", lambda marker: (marker / "blue").rename(marker / "green"), Outcome.YES, "say green"),
]


@pytest.mark.parametrize(
    ("change", "outcome", "reason"), [row[1:] for row in BY_HAND], ids=[row[0] for row in BY_HAND]
)
def test_nginx_marker_changed_by_hand(
    change: Callable[[Path], object], outcome: Outcome, reason: str, colors: Colors, tmp_path: Path
) -> None:
    """A manual change in the marker directory is reported and not overwritten."""
    with nginx(tmp_path, colors) as seen:
        assert seen.driver.agreed().ok
        change(tmp_path / "live")
        verdict = seen.driver.agreed()
        assert verdict.outcome is outcome, verdict
        assert reason in verdict.reason


def test_a_container_that_looks_at_another_directory(colors: Colors, tmp_path: Path) -> None:
    """A container keeps the old directory when the marker directory is replaced; the disagreement is reported."""
    with nginx_in_a_container(tmp_path, colors) as seen:
        assert seen.driver.agreed().ok
        marker = tmp_path / "live"
        marker.rename(tmp_path / "away")
        create_marker(marker, "green")
        verdict = seen.driver.agreed()
        assert verdict.outcome is Outcome.NO, verdict
        assert verdict.reason == "the marker names green, but blue answers"


def test_nginx_that_cannot_see_the_marker(colors: Colors, tmp_path: Path) -> None:
    """If nginx does not see the host's marker directory, the result is unknown."""
    with nginx(tmp_path, colors) as seen:
        elsewhere = tmp_path / "elsewhere"
        create_marker(elsewhere, "blue")
        shutil.rmtree(tmp_path / "live")
        verdict = Nginx(elsewhere, seen.way).agreed()
        assert verdict.outcome is Outcome.UNKNOWN
        assert verdict.reason.startswith("nginx does not see this host's marker directory")


def test_traefik_file_changed_by_hand(colors: Colors, tmp_path: Path) -> None:
    """A file that differs from both prepared ones is reported, and the switch does not overwrite it."""
    with traefik(tmp_path, colors) as seen:
        file = tmp_path / "cutover.yml"
        changed = file.read_text() + "# by hand\n"
        file.unlink()
        file.write_text(changed)
        assert seen.driver.agreed().outcome is Outcome.UNKNOWN
        assert not run(seen.driver.switch("green").do, deadline_s=DEADLINE_S).ok
        assert file.read_text() == changed


@pytest.mark.parametrize("start", [nginx, traefik], ids=lambda start: start.__name__)
def test_a_dead_color_is_still_named(start: Start, colors: Colors, tmp_path: Path) -> None:
    """If the live color does not respond, the proxy's state names it, so that a switch back is possible."""
    with start(tmp_path, colors) as seen:
        seen.go("green")
        colors.stop("green")
        live = seen.driver.live()
        assert live.color == "green", live
        assert "502 from green" in live.how
        assert seen.driver.control().answers()
        seen.come_back("green")
        wait_until(lambda: seen.driver.live().color == "blue", "blue serves again")


@pytest.mark.parametrize("start", PROXIES, ids=lambda start: start.__name__)
def test_a_color_that_answers_nonsense_is_still_named(start: Start, colors: Colors, tmp_path: Path) -> None:
    """A live color without the color header is identified, and a switch back is possible."""
    with start(tmp_path, colors) as seen:
        seen.go("green")
        colors.green.says_its_color, colors.green.status = False, 500
        assert seen.driver.live().color == "green"
        assert seen.driver.agreed().ok, seen.driver.agreed()
        seen.come_back("green")
        wait_until(lambda: seen.driver.live().color == "blue", "blue serves again")


@pytest.mark.parametrize("start", [nginx, traefik], ids=lambda start: start.__name__)
def test_a_color_that_hangs_can_be_left(start: Start, colors: Colors, tmp_path: Path) -> None:
    """Where the live color answers nobody, the switch to the other one is verified all the same."""
    with start(tmp_path, colors) as seen:
        colors.green.let_go = True  # blue holds each request until the end of the test
        try:
            plan = ProbePlan("/slow?hold=1", open_connections=4, new_connections=2, deadline_s=2)
            proof = seen.verified("green", plan)
        finally:
            colors.blue.let_go = True
        assert proof.verdict().ok, proof
        assert proof.failed_before > 0


def test_haproxy_that_has_no_such_word(colors: Colors, tmp_path: Path) -> None:
    """If HAProxy rejects the change because its map is empty, this is reported and the map file is unchanged."""
    with haproxy(tmp_path, colors, words="") as seen:
        done = run(seen.driver.switch("green").do, deadline_s=DEADLINE_S)
        assert done.code == 1
        assert "HAProxy did not take green" in done.last_line
        assert (tmp_path / "live.map").read_text() == ""
        assert seen.driver.live().color == "blue"
